"""The spill's size is foretold, and a disk without room is refused before any work."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from app.errors import Invalid, Unavailable
from tests.precompute.scene import Scene
from tests.worker.tiny import save_sae
from worker.precompute.forecast import spill_bytes
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import load_sae
from worker.tokens import Sequences

SETTINGS = Settings(shard_tokens=700, segment_entries=5_000)

Usage = namedtuple("Usage", "total used free")


def go(scene: Scene, folder: Path, reports: list[str]) -> None:
    precompute(
        scene.model, scene.dictionaries, scene.sequences, spill_dir=folder, settings=SETTINGS,
        on_range=lambda *_: None, on_progress=lambda phase, *_: reports.append(phase),
    )  # fmt: skip


def test_the_forecast_is_close(scene: Scene, tmp_path: Path) -> None:
    expected = sum(spill_bytes(scene.model, scene.dictionaries, scene.sequences, SETTINGS).values())
    go(scene, tmp_path, [])
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0.8 < expected / written < 1.2


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_forecast_does_not_rest_on_the_first_document(
    scene: Scene, tmp_path: Path, first: int
) -> None:
    """Sequences as long as the context, behind a tiny one."""
    random, size = np.random.default_rng(0), scene.model.context_size
    words = [i for i in range(scene.model.vocab_size) if i not in scene.model.special_ids]
    texts = [[scene.model.bos_id, *random.choice(words, first - 1)]]
    texts += [[scene.model.bos_id, *random.choice(words, size - 1)] for _ in range(60)]
    sequences = Sequences(
        np.concatenate(texts).astype(np.uint16),
        np.cumsum([0, *map(len, texts)], dtype=np.int64),
    )
    scene = replace(scene, sequences=sequences)
    expected = sum(spill_bytes(scene.model, scene.dictionaries, sequences, SETTINGS).values())
    go(scene, tmp_path, [])
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 0.8 < expected / written < 1.25


def test_a_full_disk_is_refused_before_any_work(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sum(spill_bytes(scene.model, scene.dictionaries, scene.sequences, SETTINGS).values())
    reports: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, expected))
    with pytest.raises(Unavailable, match=r"GB are free; free some disk, set SAESCOPE_DATA_DIR"):
        go(scene, tmp_path, reports)
    assert not reports
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 2 * expected))
    go(scene, tmp_path, reports)
    assert reports


def test_an_activation_that_overflows_is_told(scene: Scene, tmp_path: Path) -> None:
    folder = save_sae(tmp_path / "sae", "standard")
    weights = load_file(folder / "sae_weights.safetensors")
    weights["W_enc"][:, 5] = 3e38
    weights["b_enc"][5] = 3e38
    save_file(weights, folder / "sae_weights.safetensors")
    huge = load_sae("huge", folder, model=scene.model)
    with pytest.raises(Invalid, match="Feature 5 of huge has an activation that is no finite"):
        precompute(
            scene.model, [huge], scene.sequences, spill_dir=tmp_path, settings=SETTINGS,
            on_range=lambda *_: None,
        )  # fmt: skip


def test_what_is_spilled_already_needs_no_room(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(scene, tmp_path, [])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    go(scene, tmp_path, [])


def test_what_is_kept_of_earlier_runs_makes_room(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "an-sae" / "a-run"
    old.mkdir(parents=True)
    (old / "value").write_bytes(b"old")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: Usage(10**9, 0, 0 if old.exists() else 10**9)
    )
    go(scene, tmp_path, [])
    assert not old.exists()
