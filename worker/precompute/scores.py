"""How well a label tells where its feature is active.

A label's two parts are two predictions of activity: *input* says that the feature is active where
the token is one that it fires on, *output* that it is active where the next token is one that it
promotes. A prediction is scored by its balanced accuracy

    (P(predicted | active) + P(not predicted | not active)) / 2

over all tokens that count. Whatever knows nothing of the feature scores 1/2, however rare the feature
is: that is chance.

A part counts when it reaches `LABEL_TELLS` on the nine tenths of the corpus that labels are made from,
and again on the tenth held out: the label is then of kind input, output or both, else of neither. Of
a feature that is active only a few times, the nine tenths alone would say that any label tells, as it
was made from just these. The score is that of the part that is better on the nine tenths, measured on
the tenth held out.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from app.store.records import LABEL_KINDS
from worker.precompute.draw import held_out
from worker.precompute.gather import Merged, Parts
from worker.precompute.labels import Named
from worker.precompute.settings import LABEL_TELLS
from worker.tokens import Sequences

_BLOCK = 2**20
"""Entries or tokens looked at at a time."""


class Scores(NamedTuple):
    """Of the labels of a range."""

    kind: Int[np.ndarray, " features"]
    """Index into `LABEL_KINDS`."""
    score: Float[np.ndarray, " features"]
    """Balanced accuracy; NaN where the feature is never active in one of the two parts."""


class Context:
    """The corpus as predictions see it: at each place the token, and the one behind it.

    Halves are 0, what labels are made from, and 1, what is held out.
    """

    def __init__(
        self, sequences: Sequences, special: Bool[np.ndarray, " vocab"], seed: int
    ) -> None:
        self.sequences, self.special = sequences, special
        self.half = held_out(seed, np.arange(len(sequences))).astype(np.int64)
        self.own = np.zeros((2, len(special)), np.int64)
        """How often each token counts, by half."""
        self.next = np.zeros((2, len(special) + 1), np.int64)
        """How often each token comes behind one that counts; last, nothing."""
        self._count()

    def at(
        self, sequence: Int[np.ndarray, " n"], position: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Tokens at some places, and those behind them; the vocabulary's size behind the last."""
        flat, offsets = self.sequences.flat, self.sequences.offsets
        place = offsets[sequence] + position
        last = place + 1 == offsets[sequence + 1]
        behind = flat[np.where(last, place, place + 1)].astype(np.int64)
        return flat[place].astype(np.int64), np.where(last, len(self.special), behind)

    def _count(self) -> None:
        offsets = self.sequences.offsets
        step = max(1, _BLOCK * len(self.sequences) // max(len(self.sequences.flat), 1))
        for first in range(0, len(self.sequences), step):
            lengths = np.diff(offsets[first : first + step + 1])
            sequence = np.repeat(np.arange(first, first + len(lengths)), lengths)
            position = np.arange(len(sequence)) - (offsets[sequence] - offsets[first])
            own, behind = self.at(sequence, position)
            counts = ~self.special[own]
            for half in (0, 1):
                chosen = counts & (self.half[sequence] == half)
                self.own[half] += np.bincount(own[chosen], minlength=self.own.shape[1])
                self.next[half] += np.bincount(behind[chosen], minlength=self.next.shape[1])


def score_labels(named: Named, parts: Parts, context: Context) -> Scores:
    """Kinds and scores of the labels of a range, from its entries."""
    counted = zip(*(_hits(named, part, context) for part in parts), strict=True)
    active, hits = (np.sum(column, axis=0) for column in counted)
    accuracy = np.stack([
        _balanced_accuracy(active, hits[0], _predicted(named.fires, context.own), context),
        _balanced_accuracy(active, hits[1], _predicted(named.promotes, context.next), context),
    ])  # fmt: skip
    made_from, held = accuracy[:, 0], accuracy[:, 1]
    tells = np.all(accuracy >= LABEL_TELLS, axis=1)
    better = (made_from[1] > made_from[0]).astype(np.int64)
    score = np.where(np.isnan(made_from[0]), np.nan, held[better, np.arange(held.shape[1])])
    assert LABEL_KINDS == ("neither", "input", "output", "both")
    return Scores((tells[0] + 2 * tells[1]).astype(np.int8), score.astype(np.float32))


def _hits(
    named: Named, entries: Merged, context: Context
) -> tuple[Int[np.ndarray, "2 features"], Int[np.ndarray, "2 2 features"]]:
    """Entries of each feature by half; and those predicted, by part and half."""
    features = len(entries.count)
    active, hits = np.zeros(2 * features, np.int64), np.zeros((2, 2 * features), np.int64)
    for block in zip(*(column.split(_BLOCK) for column in entries.columns[:3]), strict=True):
        feature, sequence, position = (column.numpy() for column in block)
        cell = context.half[sequence] * features + feature
        active += np.bincount(cell, minlength=2 * features)
        for part, tokens in enumerate(context.at(sequence, position)):
            hit = _is_named(named.promotes if part else named.fires, feature, tokens)
            hits[part] += np.bincount(cell[hit], minlength=2 * features)
    return active.reshape(2, features), hits.reshape(2, 2, features)


def _is_named(
    tokens: Int[np.ndarray, "features named"],
    feature: Int[np.ndarray, " n"],
    token: Int[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    hit = np.zeros(len(token), dtype=bool)
    for column in tokens.T:
        hit |= column[feature] == token
    return hit


def _predicted(
    tokens: Int[np.ndarray, "features named"], counts: Int[np.ndarray, "2 vocab"]
) -> Int[np.ndarray, "2 features"]:
    """How many tokens of each half are predicted to be active."""
    return np.where(tokens >= 0, counts[:, tokens], 0).sum(2)


def _balanced_accuracy(
    active: Int[np.ndarray, "2 features"],
    hits: Int[np.ndarray, "2 features"],
    predicted: Int[np.ndarray, "2 features"],
    context: Context,
) -> Float[np.ndarray, "2 features"]:
    """NaN where a feature is active on no token or on all."""
    total = context.own.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        missed = (predicted - hits) / (total - active)
        return (hits / active + 1 - missed) / 2
