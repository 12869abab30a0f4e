"""The entries of a range of features, merged from all segments into one list and cut into runs.

Every slice is sorted by feature, so where each of its entries goes is known by counting: the
entries of feature f from slice s begin at (all entries of features before f) + (those of f in
slices before s). That is a stable sort by feature, without comparing anything.

Within a feature the tokens of a sequence are next to each other and in order, because a sequence
lies in one batch. So a (feature, sequence) pair is a contiguous run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from worker.precompute.spill import Slice


@dataclass(frozen=True)
class Merged:
    """All entries of a range of features, sorted by feature."""

    count: Int[torch.Tensor, " features"]
    """Entries of each feature."""
    feature: Int[torch.Tensor, " entries"]
    """int32: row in the range."""
    sequence: Int[torch.Tensor, " entries"]
    """int32: sequence in the corpus."""
    position: Int[torch.Tensor, " entries"]
    """int32: position in the sequence."""
    value: Float[torch.Tensor, " entries"]
    """Above 0, folded units."""


@dataclass(frozen=True)
class Runs:
    """The (feature, sequence) pairs of a range that have entries, in the order of the entries."""

    start: Int[torch.Tensor, " runs"]
    """First entry."""
    length: Int[torch.Tensor, " runs"]
    """Entries."""
    feature: Int[torch.Tensor, " runs"]
    """Row of the feature in the range."""
    sequence: Int[torch.Tensor, " runs"]
    max: Float[torch.Tensor, " runs"]
    """Strongest activation."""


def merge(slices: Sequence[Slice], features: int, bits: int) -> Merged:
    """Merge slices of `features` features, whose places have `bits` position bits."""
    counts = np.array([one.counts for one in slices], dtype=np.int64).reshape(-1, features)
    count = counts.sum(0)
    begin = (np.cumsum(count) - count) + (np.cumsum(counts, 0) - counts)
    size = int(count.sum())
    value, position = np.empty(size, np.float32), np.empty(size, np.int32)
    sequence = np.empty(size, np.int32)
    for one, target in zip(slices, begin, strict=True):
        shift = target - (np.cumsum(one.counts) - one.counts)
        to = np.arange(len(one.value)) + np.repeat(shift, one.counts)
        value[to] = one.value
        position[to] = one.place & ((1 << bits) - 1)
        sequence[to] = (one.place >> bits) + one.first
    feature = np.repeat(np.arange(features, dtype=np.int32), count)
    columns = (count, feature, sequence, position, value)
    return Merged(*(torch.from_numpy(column) for column in columns))


def find_runs(entries: Merged) -> Runs:
    """Cut the entries into runs."""
    begins = torch.ones_like(entries.value, dtype=torch.bool)
    begins[1:] = entries.sequence.diff() != 0
    live = entries.count > 0
    begins[(entries.count.cumsum(0) - entries.count)[live]] = True
    start = begins.nonzero().squeeze(1)
    end = start.new_tensor([len(begins)])
    length = start.diff(append=end) if len(start) else start
    return Runs(
        start=start,
        length=length,
        feature=entries.feature.index_select(0, start).long(),
        sequence=entries.sequence.index_select(0, start),
        max=torch.segment_reduce(entries.value, "max", lengths=length, unsafe=True),
    )
