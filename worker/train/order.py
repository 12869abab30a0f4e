"""Which token is trained on when: a pure function of the corpus, the seed and the position.

Training reads an endless stream of tokens. Every epoch holds each training sequence once, in a
permutation drawn from (seed, epoch); special tokens are left out. A window of the stream is thus
a list of pieces of sequences, and nothing of it ever needs to be saved.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from worker.tokens import Sequences

HELD_OUT_SHARE = 10
HELD_OUT_TOKENS = 50_000


@dataclass(frozen=True)
class Pieces:
    """Parts of sequences that follow each other in the stream, one row each."""

    sequence: Int[np.ndarray, " pieces"]
    """Which sequence."""
    first: Int[np.ndarray, " pieces"]
    """First token taken, counted among the sequence's trained tokens."""
    last: Int[np.ndarray, " pieces"]
    """One past the last token taken, counted likewise."""


def hold_out(
    lengths: Int[np.ndarray, " sequences"],
) -> tuple[Int[np.ndarray, " training"], Int[np.ndarray, " held_out"]]:
    """Split sequences (given by their numbers of trained tokens) into training and held-out.

    Every tenth sequence is held out, or fewer, evenly spread, where a tenth is over 50,000 tokens.
    Sequences without any trained token are in neither.
    """
    rows = np.flatnonzero(lengths)
    wanted = -(-int(lengths.sum()) // HELD_OUT_TOKENS)
    stride = max(min(HELD_OUT_SHARE, len(rows)), wanted)
    held_out = np.arange(len(rows)) % stride == stride - 1
    return rows[~held_out], rows[held_out]


def take(sequences: Sequences, rows: Int[np.ndarray, " rows"]) -> Sequences:
    """Some of the sequences, in the order of `rows`."""
    lengths = np.diff(sequences.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shift = np.repeat(sequences.offsets[rows] - offsets[:-1], lengths)
    return Sequences(sequences.flat[np.arange(offsets[-1]) + shift], offsets)


def beginning(sequences: Sequences, tokens: int) -> Sequences:
    """Sequences from the first on, until they hold so many tokens."""
    stop = min(int(np.searchsorted(sequences.offsets, tokens)), len(sequences))
    offsets = sequences.offsets[: stop + 1]
    return Sequences(sequences.flat[: offsets[-1]], offsets)


class Order:
    """The stream over `rows`, of which row `r` gives `lengths[r]` tokens an epoch."""

    def __init__(
        self,
        rows: Int[np.ndarray, " training"],
        lengths: Int[np.ndarray, " sequences"],
        seed: int,
    ) -> None:
        self.epoch_tokens = int(lengths[rows].sum())
        self._rows, self._lengths, self._seed = rows, lengths, seed
        self._epoch = -1

    def pieces(self, start: int, stop: int) -> Pieces:
        """The tokens at stream positions `start` to `stop`, which may span epochs."""
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while start < stop:
            epoch, begin = divmod(start, self.epoch_tokens)
            end = min(begin + stop - start, self.epoch_tokens)
            parts.append(self._within(epoch, begin, end))
            start += end - begin
        return Pieces(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _within(
        self, epoch: int, begin: int, end: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._enter(epoch)
        low = np.searchsorted(self._ends, begin, side="right")
        high = np.searchsorted(self._ends, end, side="left") + 1
        rows = self._permuted[low:high]
        starts = self._ends[low:high] - self._lengths[rows]
        first = np.maximum(begin - starts, 0)
        last = np.minimum(end - starts, self._lengths[rows])
        return rows, first, last

    def _enter(self, epoch: int) -> None:
        """Keep the permutation of one epoch: windows ask for it again and again."""
        if epoch != self._epoch:
            random = np.random.default_rng([self._seed, epoch])
            self._permuted = random.permutation(self._rows)
            self._ends = np.cumsum(self._lengths[self._permuted])
            self._epoch = epoch
