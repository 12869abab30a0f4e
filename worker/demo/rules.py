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
        self.bounds = np.concatenate([[0], np.cumsum(total)])
        self._offset = (concept * (len(chosen) + 1)).astype(np.int32)
        rank = np.arange(len(concept)) - self.bounds[concept]
        self._from_top = (2 * (total[concept] - rank)).astype(np.float32)
        self._from_bottom = (2 * (rank + 1)).astype(np.float32)
        self._positives = total[concept].astype(np.float32)

    def cuts(
        self, order: Int[np.ndarray, " n"], ordered: Float[np.ndarray, " n"]
    ) -> Iterator[tuple[Sign, Int[np.ndarray, " cuts"], Float[np.ndarray, " cuts"]]]:
        """Of either sign, the cuts just behind each token that has a concept: how many tokens each
        calls, and its F1. By concept, and in each as the token's value rises. `order` sorts the
        values of the half that chooses to `ordered`."""
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        key = self._offset + place[self._token]
        key.sort()
        places = key - self._offset
        first, stop = (bound[places] for bound in _runs(ordered))
        at_least = len(order) - first
        yield 1, at_least, self._from_top / (at_least + self._positives)
        yield -1, stop, self._from_bottom / (stop + self._positives)


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
        for sign, calls, f1 in self.question.cuts(order, ordered):
            best = np.maximum.reduceat(f1, self.question.bounds[:-1])
            for concept in np.flatnonzero(best > self.chosen_f1).tolist():
                first, last = self.question.bounds[concept : concept + 2]
                called = _called(sign, calls[first:last], f1[first:last])
                stop = len(ordered) - called if sign > 0 else called
                cut = Cut(column, sign, _between(ordered, stop))
                self._take(concept, cut, float(best[concept]), values)

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


def _called(sign: Sign, calls: Int[np.ndarray, " cuts"], f1: Float[np.ndarray, " cuts"]) -> int:
    """How many tokens the best of a concept's cuts calls, the least of equally good ones."""
    return int(calls[::-1][f1[::-1].argmax()] if sign > 0 else calls[f1.argmax()])


def _runs(
    ordered: Float[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """By place, where the run of equal numbers begins that it is in, and where it has ended."""
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    stops = np.append(starts[1:], len(ordered))
    runs = stops - starts
    return np.repeat(starts, runs).astype(np.int32), np.repeat(stops, runs).astype(np.int32)


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
