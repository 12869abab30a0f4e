"""The entries of a range of features, merged from all segments and cut into runs.

Mostly the entries of a range are one list. A single feature that has more than fit in memory comes in
several parts, one after another; whatever is computed from entries is computed from parts.

Every slice is sorted by feature, so where each of its entries goes is known by counting: the
entries of feature f from slice s begin at (all entries of features before f) + (those of f in
slices before s). That is a stable sort by feature, without comparing anything.

Within a feature the tokens of a sequence are next to each other and in order, because a sequence
lies in one batch. So a (feature, sequence) pair is a contiguous run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from worker.precompute.spill import Slice


@dataclass(frozen=True)
class Merged:
    """Entries of a range of features, sorted by feature: all of them, or a part."""

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

    @property
    def columns(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Feature, sequence, position and value of each entry."""
        return self.feature, self.sequence, self.position, self.value


Parts = Iterable[Merged]
"""All entries of a range: one `Merged`, or several of a single feature. Can be gone through again and
again."""


class Streamed:
    """Parts of a single feature, read anew each time."""

    def __init__(self, slices: Callable[[], Iterator[Slice]], bits: int, entries: int) -> None:
        """`slices` reads the feature's slices, `entries` is about how many make a part."""
        self._slices, self._bits, self._entries = slices, bits, entries

    def __iter__(self) -> Iterator[Merged]:
        held: list[Slice] = []
        for one in self._slices():
            held.append(one)
            if sum(len(part.value) for part in held) >= self._entries:
                yield merge(held, 1, self._bits)
                held = []
        yield merge(held, 1, self._bits)


class Runs(NamedTuple):
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


def find_runs(parts: Parts) -> Runs:
    """Cut the entries into runs; starts are counted over all parts."""
    found: list[Runs] = []
    before = 0
    for part in parts:
        runs = _runs_of(part, before)
        if found and len(found[-1].start) and len(runs.start):
            found[-1], runs = _joined(found[-1], runs)
        found.append(runs)
        before += len(part.value)
    return Runs(*(torch.cat(column) for column in zip(*found, strict=True)))


def _runs_of(entries: Merged, before: int) -> Runs:
    begins = torch.ones_like(entries.value, dtype=torch.bool)
    begins[1:] = entries.sequence.diff() != 0
    live = entries.count > 0
    begins[(entries.count.cumsum(0) - entries.count)[live]] = True
    start = begins.nonzero().squeeze(1)
    end = start.new_tensor([len(begins)])
    length = start.diff(append=end) if len(start) else start
    return Runs(
        start=start + before,
        length=length,
        feature=entries.feature.index_select(0, start).long(),
        sequence=entries.sequence.index_select(0, start),
        max=torch.segment_reduce(entries.value, "max", lengths=length, unsafe=True),
    )


def _joined(one: Runs, other: Runs) -> tuple[Runs, Runs]:
    """Runs of two parts of a feature; a sequence that lies in both is a run of the second."""
    if one.sequence[-1] != other.sequence[0]:
        return one, other
    start, length, largest = (column.clone() for column in (other.start, other.length, other.max))
    start[0], length[0] = one.start[-1], one.length[-1] + other.length[0]
    largest[0] = torch.maximum(one.max[-1], other.max[0])
    return Runs(*(column[:-1] for column in one)), other._replace(
        start=start, length=length, max=largest
    )
