"""The two units of resume: shards of sequences, and ranges of features.

Both are fixed by what they cut and by the settings, never by where a run was interrupted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

_PLACE_BITS = 31


@dataclass(frozen=True)
class Shard:
    """Sequences `first` to `stop` of the corpus."""

    index: int
    first: int
    stop: int


def position_bits(context_size: int) -> int:
    """Bits that hold every position of a sequence: the same for all corpora of a model.

    An entry's place is one non-negative int32: sequence (counted in its shard) << bits | position.
    """
    return (context_size - 1).bit_length()


def plan_shards(
    offsets: Int[np.ndarray, " sequences_plus_1"], shard_tokens: int, bits: int
) -> list[Shard]:
    """Cut a corpus into shards of `shard_tokens` tokens or just over, as places of `bits` position
    bits allow."""
    most = 2 ** (_PLACE_BITS - bits)
    shards: list[Shard] = []
    first, last = 0, len(offsets) - 1
    while first < last:
        full = int(np.searchsorted(offsets, offsets[first] + shard_tokens))
        stop = min(full, first + most, last)
        shards.append(Shard(len(shards), first, stop))
        first = stop
    return shards


def plan_ranges(
    counts: Int[np.ndarray, " features"], range_entries: int, range_features: int
) -> list[tuple[int, int]]:
    """Cut features into ranges (first, stop) of at most `range_entries` entries, or of one feature.

    `counts` are the entries of each feature in the spill.
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    ranges: list[tuple[int, int]] = []
    first = 0
    while first < len(counts):
        full = int(np.searchsorted(ends, ends[first] + range_entries, side="right")) - 1
        stop = min(max(full, first + 1), first + range_features, len(counts))
        ranges.append((first, stop))
        first = stop
    return ranges
