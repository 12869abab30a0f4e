"""Shares of features, offset and rest in each neuron, from what they add at its peaks."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from app.store.split_records import Explained, Group, NeuronSplit, Part
from worker.split.contributions import Parts
from worker.split.peaks import Peaks

NAMED = 10
"""Features of a neuron whose shares are kept one by one."""


class _Neuron(NamedTuple):
    """One neuron's peaks, and what is added there."""

    window: Int[np.ndarray, " peaks"]
    value: Float[np.ndarray, " peaks"]
    offset: Float[np.ndarray, " peaks"]
    peak: Int[np.ndarray, " parts"]
    """Counted from the neuron's first; ascending."""
    feature: Int[np.ndarray, " parts"]
    weight: Float[np.ndarray, " parts"]
    contribution: Float[np.ndarray, " parts"]


class _Features(NamedTuple):
    """The features that are active at a neuron's peaks, ascending."""

    feature: Int[np.ndarray, " features"]
    share: Float[np.ndarray, " features"]
    weight: Float[np.ndarray, " features"]

    def part(self, at: int) -> Part:
        return Part(int(self.feature[at]), float(self.share[at]), float(self.weight[at]))


def sum_up(peaks: Peaks, parts: Parts, first: int, stop: int) -> list[NeuronSplit]:
    """The splits of neurons `first` to `stop`, whose peaks these are."""
    return [
        _split(first + number, one)
        for number, one in enumerate(_by_neuron(peaks, parts, np.arange(first, stop)))
    ]


def effective_number(weights: Float[np.ndarray, " n"]) -> float:
    """exp of the entropy of the positive weights, normalised to 1; 0 without any."""
    positive = weights[weights > 0]
    if not len(positive):
        return 0.0
    p = positive / positive.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _by_neuron(peaks: Peaks, parts: Parts, neurons: Int[np.ndarray, " n"]) -> Iterator[_Neuron]:
    order = np.argsort(parts.peak, kind="stable")
    peak, feature = parts.peak[order], parts.feature[order]
    weight, contribution = parts.weight[order], parts.contribution[order]
    begins = np.searchsorted(peaks.neuron, neurons)
    ends = np.searchsorted(peaks.neuron, neurons, side="right")
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        whole, own = slice(begin, end), slice(*np.searchsorted(peak, [begin, end]).tolist())
        yield _Neuron(
            peaks.window[whole],
            parts.value[whole],
            parts.offset[whole],
            peak[own] - begin,
            feature[own],
            weight[own],
            contribution[own],
        )


def _split(neuron: int, of: _Neuron) -> NeuronSplit:
    total = of.value.sum()
    if not total:
        return NeuronSplit(neuron, 0.0, [], 0.0, 0, 0.0, 0.0, None, [])
    features = _features(of, total)
    rest = of.value - of.offset - np.bincount(of.peak, of.contribution, len(of.value))
    named = np.argsort(-np.abs(features.share), kind="stable")[:NAMED]
    named = named[np.argsort(-features.share[named], kind="stable")]
    return NeuronSplit(
        neuron=neuron,
        polysemanticity=effective_number(features.share),
        features=[features.part(at) for at in named.tolist()],
        others=float(np.delete(features.share, named).sum()),
        n_others=len(features.share) - len(named),
        bias=float(of.offset.sum() / total),
        rest=float(rest.sum() / total),
        unexplained_variance=float(rest.var() / of.value.var()) if of.value.var() else None,
        groups=_groups(of, features),
    )


def _features(of: _Neuron, total: float) -> _Features:
    feature, which = np.unique(of.feature, return_inverse=True)
    weight = np.zeros(len(feature))
    weight[which] = of.weight
    return _Features(feature, np.bincount(which, of.contribution, len(feature)) / total, weight)


def _groups(of: _Neuron, features: _Features) -> list[Group]:
    """Examples by the feature that adds the most at their peak, the lowest of several."""
    found: dict[int | None, list[Explained]] = {}
    order = np.lexsort((-of.feature, of.contribution, of.peak))
    last = np.searchsorted(of.peak, np.arange(len(of.value)), side="right") - 1
    for peak, window in enumerate(of.window.tolist()):
        at = order[last[peak]] if last[peak] >= 0 else -1
        most = float(of.contribution[at]) if at >= 0 and of.peak[at] == peak else 0.0
        feature = int(of.feature[at]) if most > 0 else None
        found.setdefault(feature, []).append(Explained(window, max(most, 0.0)))
    groups = [Group(_part(features, feature), examples) for feature, examples in found.items()]
    return sorted(groups, key=lambda one: (-len(one.examples), -one.part.share if one.part else 0))


def _part(features: _Features, feature: int | None) -> Part | None:
    if feature is None:
        return None
    return features.part(int(np.searchsorted(features.feature, feature)))
