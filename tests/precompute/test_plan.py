"""Shards and ranges cover everything once, within their bounds."""

import numpy as np
import pytest

from worker.precompute.plan import plan_ranges, plan_shards, position_bits


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


@pytest.mark.parametrize("shard_tokens", [1, 50, 1_000, 10**9])
def test_shards_cover_the_corpus(shard_tokens: int) -> None:
    offsets = offsets_of(np.random.default_rng(0).integers(1, 100, size=200).tolist())
    shards = plan_shards(offsets, shard_tokens, 7)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [shard.first for shard in shards] == [0, *(shard.stop for shard in shards[:-1])]
    assert shards[-1].stop == 200
    tokens = [offsets[shard.stop] - offsets[shard.first] for shard in shards]
    assert all(shard_tokens <= t < shard_tokens + 100 for t in tokens[:-1])


def test_the_shards_before_do_not_depend_on_what_follows() -> None:
    lengths = np.random.default_rng(1).integers(1, 100, size=200).tolist()
    whole = plan_shards(offsets_of(lengths), 500, 7)
    part = plan_shards(offsets_of(lengths[:120]), 500, 7)
    assert whole[: len(part) - 1] == part[:-1]


@pytest.mark.parametrize(("longest", "bits"), [(1, 0), (2, 1), (128, 7), (129, 8), (131_072, 17)])
def test_every_place_fits_31_bits(longest: int, bits: int) -> None:
    offsets = offsets_of([longest] + [1] * 40_000)
    assert position_bits(longest) == bits
    for shard in plan_shards(offsets, 10**9, bits):
        assert ((shard.stop - shard.first - 1) << bits) + longest - 1 < 2**31


@pytest.mark.parametrize("range_entries", [0, 1, 30, 1_000, 10**9])
@pytest.mark.parametrize("range_features", [1, 7, 1_000])
def test_ranges_cover_the_features(range_entries: int, range_features: int) -> None:
    random = np.random.default_rng(2)
    counts = random.integers(0, 40, size=100) * random.integers(0, 2, size=100)
    ranges = plan_ranges(counts, range_entries, range_features)
    assert [first for first, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == 100
    for first, stop in ranges:
        assert 1 <= stop - first <= range_features
        assert stop - first == 1 or counts[first:stop].sum() <= range_entries
        full = stop < 100 and stop - first < range_features
        assert not full or counts[first : stop + 1].sum() > range_entries
