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
from worker.precompute.gather import Merged, Runs
from worker.precompute.settings import BEFORE, PER_QUANTILE, QUANTILES, TOP, WINDOW

_STRATA = QUANTILES * PER_QUANTILE
_BAND = np.repeat(np.arange(1 + QUANTILES), [TOP] + [PER_QUANTILE] * QUANTILES)
"""Band of each rank that is chosen."""


def select_examples(
    entries: Merged,
    runs: Runs,
    lengths: Int[torch.Tensor, " sequences"],
    first: int,
    seed: int,
) -> Examples:
    """The examples of a range that begins at feature `first`; `lengths` are the corpus' own."""
    active = torch.bincount(runs.feature, minlength=len(entries.count))
    ranks, wanted = _ranks(active.cpu().numpy(), first, seed)
    feature, chosen = np.nonzero(wanted)
    before = (active.cumsum(0) - active).cpu().numpy()
    at = torch.from_numpy(before[feature] + ranks[feature, chosen]).to(runs.max.device)
    run = _by_rank(runs).index_select(0, at)
    windows = _windows(entries, runs, run, lengths)
    sizes = windows.inside.sum(1)
    taken = windows.entry[windows.inside]
    of = torch.repeat_interleave(windows.offset, sizes)
    return Examples(
        feature=feature.astype(np.int32),
        band=_BAND[chosen].astype(np.int8),
        sequence=runs.sequence[run].cpu().numpy(),
        offset=windows.offset.int().cpu().numpy(),
        length=windows.length.short().cpu().numpy(),
        peak=windows.peak.short().cpu().numpy(),
        values_start=np.concatenate([[0], sizes.cumsum(0).cpu().numpy()]),
        value_position=(entries.position[taken] - of).byte().cpu().numpy(),
        value=entries.value[taken].cpu().numpy(),
    )


def _by_rank(runs: Runs) -> Int[torch.Tensor, " runs"]:
    """Runs by feature, then strongest first, then sequence. Positive floats order as their bits."""
    by_sequence = runs.sequence.sort(stable=True).indices
    strength = (runs.feature << 32) - runs.max.view(torch.int32)
    return by_sequence[strength[by_sequence].sort(stable=True).indices]


def _ranks(
    active: Int[np.ndarray, " features"], first: int, seed: int
) -> tuple[Int[np.ndarray, "features chosen"], Bool[np.ndarray, "features chosen"]]:
    """Ranks of a feature's examples among its `active` sequences, and which of them there are."""
    top = np.arange(TOP)
    wanted_top = top < active[:, None]
    edges = np.arange(_STRATA + 1) * active[:, None] // _STRATA
    low, size = edges[:, :-1], np.diff(edges)
    feature = np.arange(first, first + len(active), dtype=np.uint64)
    draw = _hash(seed, feature[:, None] * np.uint64(_STRATA) + np.arange(_STRATA, dtype=np.uint64))
    drawn = low + (draw % np.maximum(size, 1).astype(np.uint64)).astype(np.int64)
    ranks = np.concatenate([np.broadcast_to(top, wanted_top.shape), drawn], axis=1)
    return ranks, np.concatenate([wanted_top, size > 0], axis=1)


def _hash(seed: int, key: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea, Flood 2014) of the key in the stream of the seed."""
    with np.errstate(over="ignore"):
        x = key + np.uint64(seed % 2**64) * np.uint64(0xD1342543DE82EF95)
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


class _Windows(NamedTuple):
    offset: Int[torch.Tensor, " examples"]
    length: Int[torch.Tensor, " examples"]
    peak: Int[torch.Tensor, " examples"]
    entry: Int[torch.Tensor, "examples near"]
    """The entries within a window's length of the peak, in order."""
    inside: Bool[torch.Tensor, "examples near"]
    """Those of them that are in the window."""


def _windows(
    entries: Merged,
    runs: Runs,
    run: Int[torch.Tensor, " examples"],
    lengths: Int[torch.Tensor, " sequences"],
) -> _Windows:
    start, stop = runs.start[run], runs.start[run] + runs.length[run]
    top = _peaks(entries, runs, start)
    sequence_length = lengths[runs.sequence[run].long()]
    latest = (sequence_length - WINDOW).clamp(min=0)
    offset = torch.minimum((entries.position[top] - BEFORE).clamp(min=0), latest)
    length = sequence_length.clamp(max=WINDOW)
    entry = top[:, None] + torch.arange(1 - WINDOW, WINDOW, device=top.device)
    inside = (entry >= start[:, None]) & (entry < stop[:, None])
    entry = entry.clamp(0, max(len(entries.value) - 1, 0))
    position = entries.position[entry] - offset[:, None]
    inside &= (position >= 0) & (position < length[:, None])
    return _Windows(offset, length, entries.position[top] - offset, entry, inside)


def _peaks(
    entries: Merged, runs: Runs, start: Int[torch.Tensor, " examples"]
) -> Int[torch.Tensor, " examples"]:
    """The first entry at its run's maximum, for the runs that begin at `start`."""
    largest = torch.repeat_interleave(runs.max, runs.length)
    at_maximum = (entries.value == largest).nonzero().squeeze(1)
    return at_maximum[torch.searchsorted(at_maximum, start)]
