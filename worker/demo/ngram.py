"""The peer: an n-gram model with interpolated Kneser-Ney smoothing.

    P_n(w | h) = max(c(hw) - D_n, 0) / c(h) + D_n N(h·) / c(h) · P_{n-1}(w | h'),

c counts occurrences at the highest order and distinct left neighbours below it, c(h) sums c(hw)
over w, N(h·) is the number of distinct w, h' is h without its first symbol,
D_n = n1 / (n1 + 2 n2) from the numbers of n-grams seen once and twice, and P_0 is uniform
(Chen and Goodman, 1998, equation 24). An n-gram is one int64: its symbols as digits of base V.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class _Order(NamedTuple):
    """The tables of one order, sorted by key."""

    grams: Int[np.ndarray, " grams"]
    counts: Int[np.ndarray, " grams"]
    histories: Int[np.ndarray, " histories"]
    totals: Int[np.ndarray, " histories"]
    kinds: Int[np.ndarray, " histories"]
    discount: float


class NGram:
    """An interpolated Kneser-Ney model over sequences of ints below `vocab_size`.

    Every sequence begins with its own BOS; histories before it are filled with that symbol.
    """

    def __init__(self, sequences: list[list[int]], vocab_size: int, order: int = 5) -> None:
        if vocab_size**order >= 2**63:
            raise ValueError(f"{order}-grams over {vocab_size} symbols do not fit 63 bits")
        self.vocab_size, self.order = vocab_size, order
        keys, counts = np.unique(self._keys(sequences, order), return_counts=True)
        self._orders: list[_Order] = []
        for n in range(order, 0, -1):
            self._orders.insert(0, self._tables(keys, counts))
            # Below the highest order an n-gram counts once for each distinct left neighbour.
            keys, counts = np.unique(keys % vocab_size ** (n - 1), return_counts=True)

    def log_probabilities(self, sequence: list[int]) -> Float[np.ndarray, " predicted"]:
        """Natural log probability of every symbol after the BOS, given all that is before it."""
        keys = self._keys([sequence], self.order)
        probability = np.full(len(keys), 1.0 / self.vocab_size)
        for n, tables in enumerate(self._orders, start=1):
            probability = self._interpolate(tables, keys % self.vocab_size**n, probability)
        return np.log(probability)

    def _keys(self, sequences: list[list[int]], order: int) -> Int[np.ndarray, " symbols"]:
        """The n-gram that ends at each symbol after the BOS, over all sequences."""
        padded = [[s[0]] * (order - 2) + s for s in sequences if len(s) > 1]
        flat = np.fromiter((x for s in padded for x in s), dtype=np.int64)
        keys = np.zeros(len(flat), dtype=np.int64)
        for back in range(order):
            keys[order - 1 :] += flat[order - 1 - back : len(flat) - back] * self.vocab_size**back
        ends = np.ones(len(flat), dtype=bool)
        starts = np.cumsum([0] + [len(s) for s in padded[:-1]])
        for offset in range(order - 1):
            ends[starts + offset] = False
        return keys[ends]

    def _tables(
        self, grams: Int[np.ndarray, " grams"], counts: Int[np.ndarray, " grams"]
    ) -> _Order:
        histories, first = np.unique(grams // self.vocab_size, return_index=True)
        totals = np.add.reduceat(counts, first)
        kinds = np.diff(np.append(first, len(grams)))
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        return _Order(grams, counts, histories, totals, kinds, min(discount, 0.95))

    def _interpolate(
        self,
        tables: _Order,
        keys: Int[np.ndarray, " symbols"],
        lower: Float[np.ndarray, " symbols"],
    ) -> Float[np.ndarray, " symbols"]:
        count, _ = _look_up(tables.grams, tables.counts, keys)
        total, known = _look_up(tables.histories, tables.totals, keys // self.vocab_size)
        kinds, _ = _look_up(tables.histories, tables.kinds, keys // self.vocab_size)
        safe = np.maximum(total, 1)
        seen = np.maximum(count - tables.discount, 0) / safe
        return np.where(known, seen + tables.discount * kinds / safe * lower, lower)


def _look_up(
    table: Int[np.ndarray, " entries"],
    values: Int[np.ndarray, " entries"],
    keys: Int[np.ndarray, " keys"],
) -> tuple[Int[np.ndarray, " keys"], np.ndarray]:
    """The value of each key, 0 where the table lacks it, and where it has it."""
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    known = table[at] == keys
    return np.where(known, values[at], 0), known
