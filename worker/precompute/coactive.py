"""Which features are active together, counted on a sample of the corpus' tokens.

The sample is drawn by a hash of each token's place, so it is the same wherever the work was cut. A
feature that is active with l others costs l pairs a token, so the sample has `COACTIVE_TOKENS` tokens,
or as many fewer as keep all pairs below `COACTIVE_PAIRS`. Features that are neurons are active
on half of all tokens, and are not counted.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int

from worker.precompute.draw import sampled
from worker.precompute.plan import Shard, plan_ranges
from worker.precompute.settings import COACTIVE, COACTIVE_PAIRS, COACTIVE_TOKENS
from worker.precompute.spill import Spill
from worker.tokens import Sequences

_BLOCK_TOKENS = 2**20
_BLOCK_PAIRS = 2**23
_BLOCK_CELLS = 2**23
"""Counts in memory at a time: features of a block, times the width."""


class Together(NamedTuple):
    """The features most often active with each, the most often first; behind them counts of 0."""

    features: Int[np.ndarray, "features n"]
    counts: Int[np.ndarray, "features n"]


class Sample(NamedTuple):
    """The entries of the sampled tokens, twice: by token, and by feature."""

    feature: Int[np.ndarray, " entries"]
    """int64, by token."""
    begin: Int[np.ndarray, " tokens_plus_1"]
    """Where each token's entries begin in it."""
    token: Int[np.ndarray, " entries"]
    """By feature."""
    first: Int[np.ndarray, " d_sae_plus_1"]
    """Where each feature's entries begin in it."""


def share_of(tokens: int, entries: int) -> float:
    """The share of a corpus' tokens that is sampled, given all active (token, feature) pairs."""
    pairs = (entries / max(tokens, 1)) ** 2
    return min(1.0, min(COACTIVE_TOKENS, COACTIVE_PAIRS / max(pairs, 1.0)) / max(tokens, 1))


def sampled_tokens(
    sequences: Sequences, special: Bool[np.ndarray, " vocab"], share: float, seed: int
) -> int:
    """How many tokens that count are sampled."""
    total = 0
    for begin in range(0, len(sequences.flat), _BLOCK_TOKENS):
        tokens = sequences.flat[begin : begin + _BLOCK_TOKENS]
        chosen = sampled(seed, np.arange(begin, begin + len(tokens)), share)
        total += int((chosen & ~special[tokens]).sum())
    return total


def draw_sample(
    spill: Spill,
    shards: Sequence[Shard],
    sequences: Sequences,
    bits: int,
    share: float,
    seed: int,
) -> Sample:
    """Look through a dictionary's whole spill for the entries of sampled tokens."""
    parts = [
        part for shard in shards for part in _of_shard(spill, shard, sequences, bits, share, seed)
    ]
    place = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int64)])
    feature = np.concatenate([part[1] for part in parts] or [np.empty(0, np.int64)])
    token, counts = np.unique(place, return_inverse=True, return_counts=True)[1:]
    by_feature = np.argsort(feature, kind="stable")
    return Sample(
        feature=feature[np.argsort(token, kind="stable")],
        begin=np.concatenate([[0], np.cumsum(counts)]),
        token=token[by_feature],
        first=np.searchsorted(feature[by_feature], np.arange(spill.dictionary.d_sae + 1)),
    )


def _of_shard(
    spill: Spill,
    shard: Shard,
    sequences: Sequences,
    bits: int,
    share: float,
    seed: int,
) -> Iterator[tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Places in the corpus and features of a shard's sampled entries, int64."""
    begin, end = sequences.offsets[shard.first], sequences.offsets[shard.stop]
    chosen = sampled(seed, np.arange(begin, end), share)
    for one in spill.slices(shard, 0, spill.dictionary.d_sae):
        place = sequences.offsets[(one.place >> bits) + one.first] + (one.place & ((1 << bits) - 1))
        kept = np.flatnonzero(chosen[place - begin])
        ends = np.cumsum(one.counts)
        yield place[kept], np.searchsorted(ends, kept, side="right")


def together(sample: Sample, first: int, stop: int) -> Together:
    """For each feature of a range, those most often active with it; ties go to the lower index."""
    size = np.diff(sample.begin)
    d_sae = len(sample.first) - 1
    ends = np.concatenate([[0], np.cumsum(size[sample.token])])
    pairs = np.diff(ends[sample.first[first : stop + 1]])
    blocks = plan_ranges(pairs, _BLOCK_PAIRS, max(1, _BLOCK_CELLS // d_sae))
    found = [_block(sample, size, first + low, first + high) for low, high in blocks]
    return Together(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _block(
    sample: Sample, size: Int[np.ndarray, " tokens"], first: int, stop: int
) -> tuple[Int[np.ndarray, "features n"], Int[np.ndarray, "features n"]]:
    d_sae = len(sample.first) - 1
    bounds = sample.first[first : stop + 1]
    token = sample.token[bounds[0] : bounds[-1]]
    own = np.repeat(np.arange(stop - first), np.diff(bounds))
    pairs = size[token]
    row = np.repeat(own, pairs)
    step = np.arange(len(row)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    other = sample.feature[np.repeat(sample.begin[token], pairs) + step]
    counts = np.bincount(row * d_sae + other, minlength=(stop - first) * d_sae)
    counts = counts.reshape(stop - first, d_sae)
    counts[np.arange(stop - first), np.arange(first, stop)] = 0
    # One number orders by count, then by index.
    key = torch.from_numpy(counts * d_sae + np.arange(d_sae - 1, -1, -1))
    best = key.topk(min(COACTIVE, d_sae)).values.numpy()
    return (d_sae - 1 - best % d_sae).astype(np.int32), (best // d_sae).astype(np.int32)


def nothing_together(features: int) -> Together:
    """For dictionaries of which no feature is counted."""
    none = np.empty((features, 0), np.int32)
    return Together(none, none)
