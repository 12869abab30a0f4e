"""Brute force for what a feature is named and with which features it is active, in plain loops."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from tests.precompute.oracle import splitmix
from worker.tokens import Sequences


class Told(NamedTuple):
    """Label, its kind and score, and the co-active features of one feature."""

    label: str
    kind: str
    score: float | None
    coactive: list[tuple[int, int]]


class Labels:
    """The oracle over one dictionary's dense activations (NaN where a token does not count)."""

    def __init__(
        self, dense: np.ndarray, sequences: Sequences, quoted: list[str], seed: int
    ) -> None:
        self.dense, self.seed, self.quoted = dense, seed, quoted
        self.flat, self.offsets = sequences.flat.tolist(), sequences.offsets.tolist()
        self.of_token = [
            sequence
            for sequence in range(len(sequences))
            for _ in range(self.offsets[sequence], self.offsets[sequence + 1])
        ]
        self.counted = [place for place in range(len(self.flat)) if not math.isnan(dense[place, 0])]
        self.active = {place: np.flatnonzero(dense[place] > 0).tolist() for place in self.counted}

    def held(self, sequence: int) -> bool:
        return splitmix(self.seed + 1, sequence << 2 | 1) % 10 == 0

    def tell(
        self, feature: int, examples: list[tuple], promoted: list[tuple[int, float]], pairs: bool
    ) -> Told:
        """`examples` and `promoted` tokens are those of the feature's evidence."""
        fires, label = self._fires(examples)
        promotes = [token for token, value in promoted if 0 < value >= promoted[0][1] / 2][:3]
        if promotes:
            label += "; promotes " + self._quoted(promotes)
        kind, score = self._score(feature, fires, promotes)
        return Told(label, kind, score, self._coactive(feature) if pairs else [])

    def _fires(self, examples: list[tuple]) -> tuple[list[int], str]:
        top = [one for one in examples if one[0] == 0]
        top = [one for one in top if not self.held(one[1])] or top
        weight: Counter[int] = Counter()
        for _, sequence, offset, _, peak, values in top:
            weight[self.flat[self.offsets[sequence] + offset + peak]] += values[peak]
        ranked = sorted(weight, key=lambda token: (-weight[token], token))[:3]
        named = [token for token in ranked if weight[token] >= 0.2 * sum(weight.values())]
        if named:
            return named, "fires on " + self._quoted(named)
        if ranked:
            return ranked[:1], f"fires on {self._quoted(ranked[:1])} and others"
        return [], "never fires"

    def _quoted(self, tokens: list[int]) -> str:
        return ", ".join(self.quoted[token] for token in tokens)

    def _score(
        self, feature: int, fires: list[int], promotes: list[int]
    ) -> tuple[str, float | None]:
        own = [self._accuracy(feature, held, lambda place: self.flat[place] in fires)
               for held in (False, True)]  # fmt: skip
        behind = [self._accuracy(feature, held, lambda place: self._next(place) in promotes)
                  for held in (False, True)]  # fmt: skip
        if own[0] is None or behind[0] is None:
            return "neither", None
        kind = {(True, True): "both", (True, False): "input", (False, True): "output"}.get(
            (_tells(own), _tells(behind)), "neither"
        )
        return kind, behind[1] if behind[0] > own[0] else own[1]

    def _next(self, place: int) -> int | None:
        return self.flat[place + 1] if place + 1 < self.offsets[self.of_token[place] + 1] else None

    def _accuracy(self, feature: int, held: bool, predicted) -> float | None:
        right, total = Counter[bool](), Counter[bool]()
        for place in self.counted:
            if self.held(self.of_token[place]) == held:
                active = bool(self.dense[place, feature] > 0)
                total[active] += 1
                right[active] += predicted(place) == active
        if not total[True] or not total[False]:
            return None
        return (right[True] / total[True] + right[False] / total[False]) / 2

    def _coactive(self, feature: int) -> list[tuple[int, int]]:
        entries = sum(map(len, self.active.values()))
        pairs = (entries / len(self.counted)) ** 2
        share = min(1.0, min(2**16, 2**27 / pairs) / len(self.counted))
        bound = min(int(share * 2**64), 2**64 - 1)
        together: Counter[int] = Counter()
        for place, active in self.active.items():
            if feature in active and splitmix(self.seed + 1, place << 2 | 2) < bound:
                together.update(active)
        del together[feature]
        return sorted(together.items(), key=lambda pair: (-pair[1], pair[0]))[:10]


def _tells(accuracy: list[float | None]) -> bool:
    return all(one is not None and one >= 0.6 for one in accuracy)
