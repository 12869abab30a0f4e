"""A run that is killed, cancelled or damaged goes on and ends in the same bytes."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from app.contract.jobs import Architecture
from app.errors import Conflict
from tests.train.planted import Planted, spec
from worker.durable import scratch_name
from worker.progress import Cancelled
from worker.train.run import train

ROOT = Path(__file__).parents[2]


def start(planted: Planted, folder: Path, saes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.killed", planted.model.path, folder, saes],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_after(planted: Planted, folder: Path, saes: str, reports: int) -> int:
    """kill -9 once so many reports were heard; the tokens of the last one."""
    process = start(planted, folder, saes)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(reports)]
    process.kill()
    assert process.wait() == -9
    return int(lines[-1].split()[1])


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("saes", [pytest.param("one", marks=pytest.mark.slow), "several"])
def test_killed_twice_equals_uninterrupted(planted: Planted, tmp_path: Path, saes: str) -> None:
    moments = random.Random(saes)
    whole = start(planted, tmp_path / "whole", saes)
    first = kill_after(planted, tmp_path / "killed", saes, moments.randrange(20, 45))
    saved = sorted((tmp_path / "killed" / "checkpoints").glob("step-*"))
    assert saved, "the run was killed before its first checkpoint"
    second = kill_after(planted, tmp_path / "killed", saes, moments.randrange(10, 25))
    assert second >= first - 256 * 30 and second > 0
    last = start(planted, tmp_path / "killed", saes)
    heard, _ = last.communicate()
    whole.communicate()
    assert (last.returncode, whole.returncode) == (0, 0)
    assert int(heard.splitlines()[0].split()[1]) > 0, "the last process began at the beginning"
    killed, uninterrupted = tmp_path / "killed" / "saes", tmp_path / "whole" / "saes"
    assert len(list(killed.iterdir())) == (2 if saes == "several" else 1)
    assert contents(killed) == contents(uninterrupted)


class Stop:
    """Cancels at the n-th report of progress."""

    def __init__(self, reports: int) -> None:
        self.left = reports
        self.seen: list[float] = []

    def __call__(self, phase: str, done: float, total: float, *_: object) -> None:
        self.seen.append(done)
        self.left -= 1
        if self.left == 0:
            raise Cancelled


@pytest.fixture(scope="module")
def whole(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return contents(go(planted, folder))


def go(planted: Planted, folder: Path, reports: int = 0, **changes: object) -> Path:
    return train(
        spec(**changes),
        planted.model,
        planted.sequences,
        checkpoint_dir=folder / "checkpoints",
        out_dir=folder / "sae",
        progress=Stop(reports),
        checkpoint_seconds=0.0,
    )


@pytest.mark.parametrize("reports", [1, 4, 11, 40, 62])
def test_cancelled_then_resumed(
    planted: Planted, whole: dict[str, bytes], tmp_path: Path, reports: int
) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, reports)
    assert not (tmp_path / "sae").exists()
    torch.manual_seed(reports)
    assert contents(go(planted, tmp_path)) == whole
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_every_architecture_goes_on_where_it_was(
    planted: Planted, tmp_path: Path, architecture: str
) -> None:
    whole = contents(go(planted, tmp_path / "whole", architecture=architecture))
    with pytest.raises(Cancelled):
        go(planted, tmp_path / "ended", 33, architecture=architecture)
    assert (tmp_path / "ended" / "checkpoints").exists()
    assert contents(go(planted, tmp_path / "ended", architecture=architecture)) == whole


def test_two_checkpoints_are_kept(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, 40)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert len(names) == 2 and all(name.startswith("step-") for name in names)


def test_what_a_killed_save_left_is_thrown_away(planted: Planted, tmp_path: Path) -> None:
    left = scratch_name(tmp_path / "checkpoints" / "step-000000009")
    left.mkdir(parents=True)
    (left / "sae_weights.safetensors").write_bytes(b"half")
    with pytest.raises(Cancelled):
        go(planted, tmp_path, 1)
    assert not left.exists()


def damage(checkpoint: Path, how: str) -> None:
    weights = checkpoint / "0" / "sae_weights.safetensors"
    content = weights.read_bytes()
    if how == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif how == "one bit flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "a file missing":
        (checkpoint / "0" / "trainer_state.pt").unlink()
    else:
        (checkpoint / "digests.json").write_text("{")


@pytest.mark.parametrize(
    "how", ["truncated", "one bit flipped", "a file missing", "digests cut short"]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    planted: Planted, whole: dict[str, bytes], tmp_path: Path, how: str
) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, 30)
    older, newer = sorted((tmp_path / "checkpoints").iterdir())
    damage(newer, how)
    stop = Stop(1)
    with pytest.raises(Cancelled):
        train(
            spec(),
            planted.model,
            planted.sequences,
            checkpoint_dir=tmp_path / "checkpoints",
            out_dir=tmp_path / "sae",
            progress=stop,
        )
    assert stop.seen == [256 * int(older.name.removeprefix("step-"))]
    assert not newer.exists()
    assert contents(go(planted, tmp_path)) == whole


def test_without_any_sound_checkpoint_it_begins_anew(
    planted: Planted, whole: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, 30)
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        damage(checkpoint, "truncated")
    assert contents(go(planted, tmp_path)) == whole


@pytest.mark.parametrize("changes", [{"seed": 1}, {"lr": 2e-3}, {"training_tokens": 50 * 256}])
def test_another_run_may_not_use_its_checkpoints(
    planted: Planted, tmp_path: Path, changes: dict
) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, 30)
    with pytest.raises(Conflict, match="other settings, model or corpus"):
        go(planted, tmp_path, **changes)
