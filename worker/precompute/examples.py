"""Which examples a feature shows, and their windows.

A feature's active sequences are ranked by their maximum, ties by sequence. The strongest `TOP` are
its top examples, one a sequence. For the rank bands its n sequences are cut by rank into 25 equal
strata, t n // 25 to (t + 1) n // 25, of which five make a band; one rank is drawn from each stratum
that is not empty, by a hash of (seed, feature, stratum). So a band's examples are all different,
spread over it evenly, and the same wherever the work was cut.

An example is the window around the first maximum of its sequence.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int

from app.store.records import Examples
from worker.precompute.draw import draw
from worker.precompute.gather import Merged, Parts, Runs
from worker.precompute.settings import BEFORE, PER_QUANTILE, QUANTILES, TOP, WINDOW

_STRATA = QUANTILES * PER_QUANTILE
_BAND = np.repeat(np.arange(1 + QUANTILES), [TOP] + [PER_QUANTILE] * QUANTILES)
"""Band of each rank that is chosen."""


def select_examples(
    parts: Parts,
    runs: Runs,
    features: int,
    lengths: Int[torch.Tensor, " sequences"],
    first: int,
    seed: int,
) -> Examples:
    """The examples of a range of features that begins at `first`; `lengths` are the corpus' own."""
    active = torch.bincount(runs.feature, minlength=features)
    ranks, wanted = _ranks(active.numpy(), first, seed)
    feature, chosen = np.nonzero(wanted)
    before = (active.cumsum(0) - active).numpy()
    at = torch.from_numpy(before[feature] + ranks[feature, chosen])
    run = _by_rank(runs).index_select(0, at)
    entries, chosen_runs = _entries_of(parts, runs, run)
    windows = _windows(entries, chosen_runs, lengths)
    starts = np.searchsorted(windows.of.numpy(), np.arange(len(feature) + 1))
    return Examples(
        feature=feature.astype(np.int32),
        band=_BAND[chosen].astype(np.int8),
        sequence=runs.sequence[run].numpy(),
        offset=windows.offset.int().numpy(),
        length=windows.length.short().numpy(),
        peak=windows.peak.short().numpy(),
        values_start=starts,
        value_position=windows.position.byte().numpy(),
        value=entries.value[windows.entry].numpy(),
    )


def _by_rank(runs: Runs) -> Int[torch.Tensor, " runs"]:
    """Runs by feature, then strongest first, then sequence. Positive floats order as their bits.

    Ties are rare, so they are put right afterwards.
    """
    strength, order = ((runs.feature << 32) - runs.max.view(torch.int32)).sort(stable=True)
    group = torch.cat([strength.new_ones(1), (strength.diff() != 0).long()])[: len(order)].cumsum(0)
    size = torch.bincount(group)
    tied = (size[group] > 1).nonzero().squeeze(1)
    runs_tied = order[tied]
    by_sequence = ((group[tied] << 32) + runs.sequence[runs_tied]).argsort()
    order[tied] = runs_tied[by_sequence]
    return order


def _ranks(
    active: Int[np.ndarray, " features"], first: int, seed: int
) -> tuple[Int[np.ndarray, "features chosen"], Bool[np.ndarray, "features chosen"]]:
    """Ranks of a feature's examples among its `active` sequences, and which of them there are."""
    top = np.arange(TOP)
    wanted_top = top < active[:, None]
    edges = np.arange(_STRATA + 1) * active[:, None] // _STRATA
    low, size = edges[:, :-1], np.diff(edges)
    feature = np.arange(first, first + len(active), dtype=np.uint64)
    stratum = feature[:, None] * np.uint64(_STRATA) + np.arange(_STRATA, dtype=np.uint64)
    drawn = low + (draw(seed, stratum) % np.maximum(size, 1).astype(np.uint64)).astype(np.int64)
    ranks = np.concatenate([np.broadcast_to(top, wanted_top.shape), drawn], axis=1)
    return ranks, np.concatenate([wanted_top, size > 0], axis=1)


def _entries_of(
    parts: Parts, runs: Runs, run: Int[torch.Tensor, " examples"]
) -> tuple[Merged, Runs]:
    """Entries among which are all those of some runs, and these runs with their starts there."""
    chosen = Runs(*(column[run] for column in runs))
    if isinstance(parts, list) and len(parts) == 1:
        return parts[0], chosen
    once, of = run.unique(return_inverse=True)
    start, length = runs.start[once], runs.length[once]
    kept, before = [], 0
    for part in parts:
        stop = before + len(part.value)
        low, high = (edge.clamp(before, stop) - before for edge in (start, start + length))
        _, entry = spans(low, high)
        kept.append(Merged(part.count, *(column[entry] for column in part.columns)))
        before = stop
    columns = zip(*(part.columns for part in kept), strict=True)
    entries = Merged(kept[0].count, *(torch.cat(column) for column in columns))
    return entries, chosen._replace(start=(length.cumsum(0) - length)[of])


class _Windows(NamedTuple):
    offset: Int[torch.Tensor, " examples"]
    length: Int[torch.Tensor, " examples"]
    peak: Int[torch.Tensor, " examples"]
    of: Int[torch.Tensor, " values"]
    """The example of each active value, non-decreasing."""
    entry: Int[torch.Tensor, " values"]
    position: Int[torch.Tensor, " values"]
    """In the window."""


def _windows(entries: Merged, runs: Runs, lengths: Int[torch.Tensor, " sequences"]) -> _Windows:
    """One window a run, around its first maximum."""
    start, stop = runs.start, runs.start + runs.length
    top = _peaks(entries, runs)
    sequence_length = lengths[runs.sequence.long()]
    latest = (sequence_length - WINDOW).clamp(min=0)
    offset = torch.minimum((entries.position[top] - BEFORE).clamp(min=0), latest)
    length = sequence_length.clamp(max=WINDOW)
    near = torch.maximum(start, top - WINDOW), torch.minimum(stop, top + WINDOW)
    of, entry = spans(*near)
    position = entries.position[entry] - offset[of]
    inside = ((position >= 0) & (position < length[of])).nonzero().squeeze(1)
    peak = entries.position[top] - offset
    return _Windows(offset, length, peak, of[inside], entry[inside], position[inside])


def spans(
    start: Int[torch.Tensor, " spans"], stop: Int[torch.Tensor, " spans"]
) -> tuple[Int[torch.Tensor, " numbers"], Int[torch.Tensor, " numbers"]]:
    """All numbers of some spans, one span after another, and the span of each."""
    size = stop - start
    of = torch.repeat_interleave(size)
    begin = size.cumsum(0) - size
    return of, torch.arange(len(of)) + (start - begin)[of]


def _peaks(entries: Merged, runs: Runs) -> Int[torch.Tensor, " runs"]:
    """The first entry at each run's maximum."""
    of, entry = spans(runs.start, runs.start + runs.length)
    at_maximum = (entries.value[entry] == runs.max[of]).nonzero().squeeze(1)
    first = torch.searchsorted(of[at_maximum], torch.arange(len(runs.start)))
    return entry[at_maximum[first]]
