"""Co-activity on a sample of the tokens is brute force over just the sampled tokens."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.precompute.oracle import dense_activations
from tests.precompute.scene import Scene
from worker.precompute import coactive
from worker.precompute.draw import sampled
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.run import precompute
from worker.precompute.settings import Settings

SETTINGS = Settings(
    batch_tokens=300, shard_tokens=700, segment_entries=700, range_features=17, seed=3
)
NAMES = ("1-relu", "1-topk", "0-hook-post", "1-signed")


class Counted(NamedTuple):
    """Of one dictionary."""

    told: list[list[tuple[int, int]]]
    """For each feature those active with it, and on how many tokens."""
    sampled: int


def run(scene: Scene, folder: Path) -> dict[str, Counted]:
    told: dict[str, list[list[tuple[int, int]]]] = {name: [] for name in NAMES}
    report = precompute(
        scene.model, [one for one in scene.dictionaries if one.id in NAMES], scene.sequences,
        spill_dir=folder, settings=SETTINGS,
        on_range=lambda name, batch: told[name].extend(map(pairs, *batch.coactive)),
    )  # fmt: skip
    return {name: Counted(told[name], report.sampled[name]) for name in NAMES}


def pairs(features: np.ndarray, counts: np.ndarray) -> list[tuple[int, int]]:
    listed = zip(features.tolist(), counts.tolist(), strict=True)
    return [(feature, count) for feature, count in listed if count]


@pytest.fixture(scope="module")
def dense(scene: Scene) -> dict[str, np.ndarray]:
    """What each dictionary gives on every token; NaN on special ones."""
    bits = position_bits(scene.model.context_size)
    shards = plan_shards(scene.sequences.offsets, SETTINGS.shard_tokens, bits)
    return {
        one.id: dense_activations(
            scene.model, one, scene.sequences, shards, SETTINGS.batch_tokens
        )
        for one in scene.dictionaries
        if one.id in NAMES
    }  # fmt: skip


def expect(active: np.ndarray) -> list[list[tuple[int, int]]]:
    """The ten features most often active with each, ties by index, from bool [tokens, d_sae]."""
    together = active.astype(int).T @ active.astype(int)
    np.fill_diagonal(together, 0)
    found = []
    for row in together.tolist():
        ranked = sorted((-count, feature) for feature, count in enumerate(row) if count)
        found.append([(feature, -count) for count, feature in ranked[:10]])
    return found


@pytest.mark.parametrize(
    ("most_tokens", "most_pairs"), [(700, 2**27), (150, 2**27), (2**16, 5_000)]
)
def test_a_sample_is_counted_as_brute_force_counts_its_tokens(
    scene: Scene,
    dense: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most_tokens: int,
    most_pairs: int,
) -> None:
    monkeypatch.setattr(coactive, "COACTIVE_TOKENS", most_tokens)
    monkeypatch.setattr(coactive, "COACTIVE_PAIRS", most_pairs)
    found = run(scene, tmp_path)
    special = np.isin(scene.sequences.flat, list(scene.model.special_ids))
    tokens = int((~special).sum())
    special_drawn = 0
    for name in NAMES:
        active = dense[name] > 0
        wanted = min(most_tokens, most_pairs / (active.sum() / tokens) ** 2)
        assert wanted < tokens / 3
        drawn = sampled(SETTINGS.seed, np.arange(len(special)), float(wanted / tokens))
        counted = drawn & ~special
        assert found[name] == Counted(expect(active[counted]), int(counted.sum()))
        assert any(found[name].told)
        special_drawn += int((drawn & special).sum())
    assert special_drawn > 0


@pytest.mark.parametrize(
    ("tokens", "l0", "wanted"),
    [
        (10**9, 0, 2**16),
        (10**9, 45, 2**16),
        (10**9, 64, 2**15),
        (10**9, 2**12, 2**3),
        (10**9, 0.01, 2**16),
        (2**14, 64, 2**14),
        (2**14, 256, 2**11),
        (1, 1, 1),
    ],
)
def test_a_sample_is_bounded_in_tokens_and_in_pairs(tokens: int, l0: float, wanted: int) -> None:
    """2^16 tokens and 2^27 pairs at most, of which a token with l active features has l^2."""
    share = coactive.share_of(tokens, int(l0 * tokens))
    assert share * tokens == pytest.approx(wanted, rel=1e-6)


def test_without_any_token_the_share_is_a_share() -> None:
    assert 0 <= coactive.share_of(0, 0) <= 1
