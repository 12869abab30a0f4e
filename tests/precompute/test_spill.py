"""Shards on disk: those of another run are thrown away for good, a missing file is an error."""

import shutil
from pathlib import Path

import pytest

from tests.precompute.scene import Scene
from worker.precompute.plan import Shard
from worker.precompute.spill import ShardWriter, Spill

SHARD = Shard(0, 0, 4)


def test_a_discard_that_was_interrupted_leaves_no_shard_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spill"
    Spill(folder, {"of": "a"}).write(SHARD, lambda at: (at / "1-relu.starts").touch())

    def interrupted(path: Path) -> None:
        next(path.glob("shard-*/*")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Spill(folder, {"of": "b"})
    assert not Spill(folder, {"of": "a"}).has(SHARD)


def test_shards_left_half_written_go(tmp_path: Path) -> None:
    spill = Spill(tmp_path, {})
    (tmp_path / ".shard-00000.0123").mkdir()
    spill.write(SHARD, lambda at: (at / "file").touch())
    assert Spill(tmp_path, {}).has(SHARD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity.json", "shard-00000"]


def test_a_shard_without_a_dictionarys_file_is_no_shard_without_entries(
    tmp_path: Path, scene: Scene
) -> None:
    spill, one = Spill(tmp_path, {}), scene.dictionaries[0]
    spill.write(SHARD, lambda at: ShardWriter(at, [], 10).close(7))
    assert spill.tokens(SHARD) == 7
    with pytest.raises(FileNotFoundError, match=r"1-relu\.starts"):
        spill.counts(SHARD, one)
