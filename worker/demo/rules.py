"""The best yes/no rule of a kind for each concept: chosen on some documents, scored on others.

The F1 of a rule that calls the tokens R, for a concept that holds of the tokens T, both among the
tokens on which the concept is judged, is 2 |R ∩ T| / (|R| + |T|). Choosing looks at documents of an
even position alone, scoring at the others alone. Two kinds of rule:

    cut     a column of numbers, a sign and a threshold: sign · value >= sign · threshold. F1 falls
            between two tokens that have the concept, so a cut behind each of them is tried: the k-th
            strongest of P, r tokens being at least as strong, gives 2 k / (r + P). The threshold of
            the best is half-way to the next token.
    tokens  a set of token ids; see `worker.demo.f1`.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from worker.demo.f1 import best_ids, f1_of
from worker.demo.probe import Labelled

Sign = Literal[1, -1]


class Cut(NamedTuple):
    """A rule on one column."""

    column: int
    sign: Sign
    threshold: float


class Half(NamedTuple):
    """The tokens of half of the documents on which some concepts are judged."""

    rows: Int[np.ndarray, " n"]
    """Which tokens of all."""
    truth: Bool[np.ndarray, "n concepts"]


class _Best(NamedTuple):
    concepts: Int[np.ndarray, " some"]
    f1: Float[np.ndarray, " some"]
    calls: Int[np.ndarray, " some"]
    """How many tokens the cut calls."""


class Question:
    """Concepts that are judged on the same tokens."""

    def __init__(
        self,
        labelled: Labelled,
        concepts: Int[np.ndarray, " concepts"],
        judged: Bool[np.ndarray, " tokens"],
    ) -> None:
        """`concepts` are columns of `labelled`; each holds of a judged token in either half."""
        self.concepts = concepts
        chosen, scored = halves(labelled, judged)
        self.chosen = Half(chosen, labelled.concepts[np.ix_(chosen, concepts)])
        self.scored = Half(scored, labelled.concepts[np.ix_(scored, concepts)])
        concept, self._token = np.nonzero(self.chosen.truth.T)
        total = self.chosen.truth.sum(axis=0)
        self._start = np.concatenate([[0], np.cumsum(total)])
        self._offset = (concept * (len(chosen) + 1)).astype(np.int32)
        rank = np.arange(len(concept)) - self._start[concept] + 1
        self._twice_rank = (2 * rank).astype(np.float32)
        self._positives = total[concept].astype(np.float32)

    def best(self, called: Int[np.ndarray, " n"], above: Float[np.ndarray, " concepts"]) -> _Best:
        """The best cut for each concept that one with an F1 `above` some number has; `called` is how
        many tokens a cut calls, by the token at whose value it is."""
        key = self._offset + called[self._token]
        key.sort()  # in the order of concepts, in each by how many tokens a cut calls
        calls = key - self._offset
        f1 = self._twice_rank / (calls + self._positives)
        best = np.maximum.reduceat(f1, self._start[:-1])
        better = np.flatnonzero(best > above)
        at = [start + f1[start:stop].argmax() for start, stop in self._spans(better)]
        return _Best(better, best[better], calls[np.array(at, dtype=int)])

    def _spans(self, concepts: Int[np.ndarray, " some"]) -> Iterator[tuple[int, int]]:
        return zip(self._start[concepts], self._start[concepts + 1], strict=True)


class BestCuts:
    """The best cut for each concept of a question, among the columns that were offered."""

    def __init__(self, question: Question) -> None:
        count = len(question.concepts)
        self.question = question
        self.chosen_f1 = np.full(count, -1.0)
        self.cuts = [Cut(-1, 1, 0.0)] * count
        self.f1 = np.zeros(count)
        """On the half that scores."""

    def offer(self, column: int, values: Float[np.ndarray, " tokens"]) -> None:
        """Try a column, of which `values` has a number for every token; the first of equals stays."""
        chosen = values[self.question.chosen.rows]
        order = chosen.argsort()
        ordered = chosen[order]
        for sign, counts in zip((1, -1), _called(ordered), strict=True):
            called = np.empty_like(counts)
            called[order] = counts
            found = self.question.best(called, self.chosen_f1)
            for concept, f1, calls in zip(*(part.tolist() for part in found), strict=True):
                stop = len(ordered) - calls if sign > 0 else calls
                self._take(concept, Cut(column, sign, _between(ordered, stop)), f1, values)

    def _take(
        self, concept: int, cut: Cut, f1: float, values: Float[np.ndarray, " tokens"]
    ) -> None:
        rows, truth = self.question.scored
        self.chosen_f1[concept], self.cuts[concept] = f1, cut
        self.f1[concept] = f1_of(calls(cut, values[rows]), truth[:, concept])


def _between(ordered: Float[np.ndarray, " n"], stop: int) -> float:
    """Half-way between the numbers before `stop` and those from there on; in float64, where nothing
    rounds to either."""
    if 0 < stop < len(ordered):
        return (float(ordered[stop - 1]) + float(ordered[stop])) / 2
    return float(ordered[0] if stop == 0 else ordered[-1])


def _called(
    ordered: Float[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """How many numbers are at least, and at most, as large as each of these ascending ones."""
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    stops = np.append(starts[1:], len(ordered))
    runs = stops - starts
    at_least, at_most = len(ordered) - starts, stops
    return np.repeat(at_least, runs).astype(np.int32), np.repeat(at_most, runs).astype(np.int32)


def questions(labelled: Labelled) -> list[Question]:
    """Concepts by the tokens on which they are judged; without those that a half lacks."""
    masks, group_of = np.unique(labelled.in_question, axis=1, return_inverse=True)
    found = []
    for group, judged in enumerate(masks.T):
        parts = [labelled.concepts[rows] for rows in halves(labelled, judged)]
        held = np.all([part.any(axis=0) for part in parts], axis=0)
        concepts = np.flatnonzero(held & (group_of.reshape(-1) == group))
        if len(concepts):
            found.append(Question(labelled, concepts, judged))
    return found


def halves(
    labelled: Labelled, judged: Bool[np.ndarray, " tokens"]
) -> tuple[Int[np.ndarray, " chosen"], Int[np.ndarray, " scored"]]:
    """The judged tokens of documents at even positions, on which rules are chosen, and the others."""
    even = labelled.document % 2 == 0
    return np.flatnonzero(judged & even), np.flatnonzero(judged & ~even)


def calls(cut: Cut, values: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """The tokens that a cut calls."""
    threshold = np.float64(cut.threshold)
    return values >= threshold if cut.sign > 0 else values <= threshold


def token_f1(
    question: Question, ids: Integer[np.ndarray, " tokens"]
) -> Float[np.ndarray, " concepts"]:
    """The F1, on the half that scores, of the best set of token ids for each concept."""
    size = int(ids.max()) + 1
    chosen, scored = ids[question.chosen.rows], ids[question.scored.rows]
    pairs = zip(question.chosen.truth.T, question.scored.truth.T, strict=True)
    return np.array([f1_of(best_ids(chosen, old, size)[scored], new) for old, new in pairs])
