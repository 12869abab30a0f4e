"""Features that fire on some texts and not on others.

Samples are tokens, or texts by their strongest token; special tokens are none. A feature's value at
a sample where it is not active is 0, and so is a negative one of a signed source.

AUROC, P(positive > negative) + P(equal) / 2, comes from the ranks of the active values alone: with
p of n positive and q of m negative samples active, and R the sum of the positive ones' ranks among
the p + q (equal values share the mean of their ranks),

    n m AUROC = R - p (p + 1) / 2  +  p (m - q)  +  (n - p) (m - q) / 2
                active over active    over inactive   both inactive

It says how surely a feature tells the sides apart, and is 1 for many once the samples are few. The
effect size decides between equals: the difference of the means in standard deviations, with a
constant in the denominator as in SAM (Tusher, Tibshirani and Chu, PNAS 2001),

    d = (mean of positive - mean of negative) / (s + s0),

s the pooled standard deviation, s0 its median over the features that are active at all. Without s0
a feature that is faintly and evenly active on one side would have the largest. With so few samples
that nothing varies within the sides (one text each), s0 is the mean difference, without its sign.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from app.contract.search import Over
from worker.live.search.ranking import Ranking
from worker.live.search.samples import Samples, gather
from worker.live.search.texts import Texts
from worker.live.strongest import Strongest

SAME = 1e-9
"""What varies by less, beside the difference of the means, varies by rounding alone."""


@dataclass(frozen=True, eq=False)
class Differences(Ranking):
    """Features by AUROC; `second` is the effect size."""

    mean: Float[np.ndarray, "_ 2"]
    """On the positive and on the negative side."""
    active: Float[np.ndarray, "_ 2"]
    """Share of the side's samples."""
    strongest: Int[np.ndarray, "_ 2"]
    """Of the samples; -1 where there is none."""
    samples: Samples
    texts: Texts

    def why(self, row: int) -> dict[str, Any]:
        sides = {
            f"{name}_{side}": column[row, i]
            for name, column in (("mean", self.mean), ("active", self.active))
            for i, side in enumerate(("positive", "negative"))
        }
        positive, negative = map(self._token, self.strongest[row].tolist())
        return {
            "kind": "contrast",
            "auroc": self.score[row],
            "effect_size": self.second[row],
            **sides,
            "strongest_positive": positive,
            "strongest_negative": negative,
        }

    def _token(self, sample: int) -> dict[str, Any] | None:
        if sample < 0:
            return None
        place = self.texts.place(int(self.samples.at[sample]))
        return {**place._asdict(), "value": self.samples.value[sample]}


def rank_by_difference(texts: Texts, found: list[Strongest], over: Over) -> Differences:
    """The features that are rather active on the positive side: AUROC above one half."""
    samples = gather(texts, found, over)
    new = np.diff(samples.feature, prepend=-1) != 0
    first, row = np.flatnonzero(new), np.cumsum(new) - 1
    feature = samples.feature[first]
    sides = np.stack([samples.positive, ~samples.positive])
    n = np.array(samples.counts)
    count = np.stack([_sums(row, side, len(feature)) for side in sides], axis=1)
    total = [_sums(row, side * samples.value, len(feature)) for side in sides]
    mean = np.stack(total, axis=1) / n
    auroc = _auroc(samples, first, row, count)
    effect = _effect_size(samples, row, count, mean)
    numbered = np.where(sides, np.arange(len(row)), -1)
    last = np.maximum.reduceat(numbered, first, axis=1).T if len(row) else numbered.T
    kept = auroc > 0.5
    return Differences(
        feature[kept],
        auroc[kept],
        effect[kept],
        mean[kept],
        (count / n)[kept],
        last[kept],
        samples,
        texts,
    )


def _auroc(
    samples: Samples,
    first: Int[np.ndarray, " f"],
    row: Int[np.ndarray, " n"],
    count: Float[np.ndarray, "f 2"],
) -> Float[np.ndarray, " f"]:
    """By the formula above. All terms are halves, so that equal ones come out equal."""
    (p, q), (n, m) = count.T, samples.counts
    ranks = _ranks(samples) - first[row]
    won = _sums(row, samples.positive * ranks, len(first)) - p * (p + 1) / 2
    return (won + p * (m - q) + (n - p) * (m - q) / 2) / (n * m)


def _sums(
    row: Int[np.ndarray, " n"], values: Shaped[np.ndarray, " n"], rows: int
) -> Float[np.ndarray, " f"]:
    """Of the values of each row; numpy counts in whole numbers where there are none."""
    return np.bincount(row, values, rows).astype(np.float64)


def _ranks(samples: Samples) -> Float[np.ndarray, " n"]:
    """Place in the order, from 1; equal values of a feature share their mean place."""
    new = np.diff(samples.feature, prepend=-1) != 0
    new |= np.diff(samples.value, prepend=-1) != 0
    begin = np.flatnonzero(new)
    size = np.diff(begin, append=len(new))
    return np.repeat(begin + (size + 1) / 2, size)


def _effect_size(
    samples: Samples,
    row: Int[np.ndarray, " n"],
    count: Float[np.ndarray, "f 2"],
    mean: Float[np.ndarray, "f 2"],
) -> Float[np.ndarray, " f"]:
    n = np.array(samples.counts)
    off = samples.value - np.where(samples.positive, mean[row, 0], mean[row, 1])
    squares = _sums(row, off**2, len(mean)) + ((n - count) * mean**2).sum(axis=1)
    s = np.sqrt(squares / max(1, n.sum() - 2))
    difference = mean[:, 0] - mean[:, 1]
    if not len(s):
        return s
    s0, typical = np.median(s), np.abs(difference).mean()
    if s0 < SAME * typical:
        s0 = typical
    scale = s + s0
    return np.divide(difference, scale, out=np.zeros_like(scale), where=scale > 0)
