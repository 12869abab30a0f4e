"""Memory is bounded by the settings: so are the pieces that entries come in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.store.records import FeatureBatch
from tests.precompute.scene import Scene
from worker.precompute import feature_phase
from worker.precompute.gather import Parts, Streamed, merge
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.precompute.spill import Slice

BITS = 6


def slices(sizes: list[int]) -> list[Slice]:
    """Slices of one feature, whose entries are numbered through."""
    cut = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return [
        Slice(0, np.array([len(one)]), one.astype(np.int32), (one + 1).astype(np.float32))
        for one in cut
    ]


@pytest.mark.parametrize("sizes", [[7] * 30, [20, 20], [0, 50, 0, 0, 3, 17, 1], [5], [0, 0]])
def test_parts_of_a_feature_are_no_larger_than_asked_and_a_slice(sizes: list[int]) -> None:
    whole = merge(slices(sizes), 1, BITS)

    def read() -> Iterator[Slice]:
        return iter(slices(sizes))

    streamed = Streamed(read, BITS, 20)
    for parts in (list(streamed), list(streamed)):
        assert all(len(part.value) < 20 + max(sizes) for part in parts)
        assert sum(int(part.count) for part in parts) == sum(sizes)
        columns = zip(*(part.columns for part in parts), strict=True)
        for column, of_whole in zip(columns, whole.columns, strict=True):
            assert torch.equal(torch.cat(column), of_whole)


def test_no_more_entries_of_a_range_are_in_memory_than_the_settings_say(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(batch_tokens=300, shard_tokens=700, segment_entries=700, range_entries=500)
    sizes: list[list[int]] = []
    evidence = feature_phase.evidence

    def noting(corpus: Any, parts: Parts, *others: Any) -> FeatureBatch:
        sizes.append([len(part.value) for part in parts])
        return evidence(corpus, parts, *others)

    monkeypatch.setattr(feature_phase, "evidence", noting)
    report = precompute(
        scene.model, scene.dictionaries[:1], scene.sequences, spill_dir=tmp_path,
        settings=settings, on_range=lambda *_: None,
    )  # fmt: skip
    assert sum(map(sum, sizes)) == report.entries["1-relu"]
    assert max(map(max, sizes)) <= 500
    assert max(map(sum, sizes)) == report.tokens > 5 * 500


@pytest.mark.parametrize(("limit", "several"), [(300, True), (1_000, True), (10**6, False)])
def test_a_segment_has_as_many_entries_as_the_settings_say_and_those_of_a_batch(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, several: bool
) -> None:
    """Those of both dictionaries together, unless that would be very few."""
    monkeypatch.setattr("worker.precompute.settings.SEGMENT", 1)
    both, batch_tokens = scene.dictionaries[1:3], 200
    report = precompute(
        scene.model, both, scene.sequences, spill_dir=tmp_path, on_range=lambda *_: None,
        settings=Settings(batch_tokens=batch_tokens, shard_tokens=700, segment_entries=2 * limit),
    )  # fmt: skip
    for one in both:
        of_shards = []
        for file in tmp_path.glob(f"{one.fingerprint[:16]}/*/*/starts"):
            starts = np.fromfile(file, np.int64).reshape(-1, one.d_sae + 1)
            of_shards.append(starts[:, -1] - starts[:, 0])
            # A token has 6 active features at most.
            assert (of_shards[-1] < limit + 6 * batch_tokens).all()
            assert (of_shards[-1][:-1] >= limit).all()
            assert (len(starts) > 1) == several
        assert len(of_shards) > 3
        assert sum(int(sizes.sum()) for sizes in of_shards) == report.entries[one.id]
