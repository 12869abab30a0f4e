"""Precompute in processes that are killed with -9 at random moments, again and again.

    python -m tests.precompute.killed FOLDER SEED KILLS

This process loads the scene once and forks for every attempt, so that a moment is a moment of
the work and not of the imports. It prints, as JSON, how many attempts were killed in which phase.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from tests.precompute.committed import Committed
from tests.precompute.scene import Scene, build
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import Dictionary

SETTINGS = Settings(
    batch_tokens=128, shard_tokens=300, segment_entries=500, range_entries=8_000, range_features=12
)


def dictionaries(scene: Scene) -> list[Dictionary]:
    """Two of the scene's: one with dense, dead and rare features, one signed."""
    return [one for one in scene.dictionaries if one.id in ("1-relu", "1-signed")]


def attempt(scene: Scene, folder: Path) -> None:
    """Go on from where the last attempt stopped."""
    committed = Committed(folder / "committed")
    precompute(
        scene.model, dictionaries(scene), scene.sequences, spill_dir=folder / "spill",
        settings=SETTINGS, on_range=committed.commit, done_ranges=committed.ranges(),
    )  # fmt: skip


def killed_after(scene: Scene, folder: Path, seconds: float | None) -> bool:
    """Fork an attempt; whether it was killed before it was done."""
    child = os.fork()
    if child == 0:
        attempt(scene, folder)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def main(folder: Path, seed: int, kills: int) -> None:
    torch.set_num_threads(1)
    scene = build(folder / "scene")
    started = time.monotonic()
    killed_after(scene, folder / "whole", None)
    whole = time.monotonic() - started
    moments, phases = random.Random(seed), Counter[str]()
    while phases.total() < kills:
        at = folder / f"killed-{phases.total()}"
        while phases.total() < kills and killed_after(scene, at, moments.uniform(0, whole / 2)):
            phases["features" if any((at / "committed").glob("*@*")) else "tokens"] += 1
        killed_after(scene, at, None)
    print(json.dumps(phases))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
