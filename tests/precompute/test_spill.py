"""Shards on disk: named by what they hold, there whole or not at all."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from app.store.records import FeatureBatch
from tests.precompute.committed import contents
from tests.precompute.scene import Scene
from worker.precompute.appender import Appender
from worker.precompute.plan import Shard
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.precompute.spill import ShardWriter, Spill
from worker.tokens import Sequences

SHARD = Shard(0, 0, 4)


def put(spill: Spill, shard: Shard, tokens: int) -> None:
    with spill.new(shard) as folder, closing(Appender(torch.device("cpu"))) as appender:
        ShardWriter(folder, spill.dictionary, 10, appender).close(tokens)


def test_a_shard_is_found_by_its_tokens(scene: Scene, tmp_path: Path) -> None:
    one = scene.dictionaries[0]
    put(Spill(tmp_path, one, {"of": "a"}, scene.sequences), SHARD, 7)
    again = Spill(tmp_path, one, {"of": "a"}, scene.sequences)
    assert again.has(SHARD) and again.tokens(SHARD) == 7
    assert again.has(Shard(3, 0, 4)) and not again.has(Shard(0, 0, 5))
    assert not Spill(tmp_path, one, {"of": "b"}, scene.sequences).has(SHARD)
    assert not Spill(tmp_path, scene.dictionaries[1], {"of": "a"}, scene.sequences).has(SHARD)


def test_tokens_that_are_cut_otherwise_are_another_shard(scene: Scene, tmp_path: Path) -> None:
    flat, one = np.arange(12, dtype=np.uint16), scene.dictionaries[0]
    put(Spill(tmp_path, one, {}, Sequences(flat, np.arange(5) * 3)), SHARD, 7)
    other = Sequences(flat, np.array([0, 2, 6, 9, 12]))
    assert not Spill(tmp_path, one, {}, other).has(SHARD)


def test_what_was_left_half_written_does_not_count(scene: Scene, tmp_path: Path) -> None:
    spill = Spill(tmp_path, scene.dictionaries[0], {}, scene.sequences)
    with pytest.raises(KeyboardInterrupt), spill.new(SHARD):
        raise KeyboardInterrupt
    assert not spill.has(SHARD)


def test_a_missing_file_is_no_shard_without_entries(scene: Scene, tmp_path: Path) -> None:
    spill = Spill(tmp_path, scene.dictionaries[0], {}, scene.sequences)
    put(spill, SHARD, 7)
    with pytest.raises(FileNotFoundError, match="starts"):
        spill.counts(SHARD)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("name", ["value", "place", "starts", "minimum", "shard.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, cut, Path.unlink])
def test_a_damaged_shard_is_computed_again(
    scene: Scene, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    one = scene.dictionaries[3]
    assert one.signed

    def run() -> tuple[list[bytes], list[float]]:
        batches: list[FeatureBatch] = []
        tokens: list[float] = []
        precompute(
            scene.model, [one], scene.sequences, spill_dir=tmp_path,
            settings=Settings(shard_tokens=700), on_range=lambda _, batch: batches.append(batch),
            on_progress=lambda phase, done, *_: tokens.append(done) if phase == "tokens" else None,
        )  # fmt: skip
        return [contents(batch) for batch in batches], tokens

    right, _ = run()
    damage(min(tmp_path.glob(f"*/*/*/{name}")))
    again, tokens = run()
    assert again == right and 0 < tokens[0] < tokens[-1]
    assert run()[1][0] == tokens[-1]
