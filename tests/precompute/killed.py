"""Precompute in processes that are killed with -9 at random moments, again and again.

    python -m tests.precompute.killed FOLDER SEED KILLS

This process loads the scene once and forks for every attempt, so that a moment is a moment of the
work and not of the imports. An attempt does what a job does: it opens a SQLite shelf, goes on from
what is there, commits, and at last switches to the new runs. A shelf is killed at until it is done;
then comes another. Prints, as JSON, how many attempts were killed in which phase, how many shelves
there were, what on them is not as an uninterrupted run leaves it, and after how many kills.
"""

import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from app.store.engine import open_shelf
from app.store.migrate import migrate
from app.store.records import FeatureBatch
from app.store.write import committed_ranges, finish_runs, put_features
from tests.precompute.scene import Scene, build
from tests.precompute.shelved import begin_runs, check_index, open_for, rows
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import Dictionary

SETTINGS = Settings(
    batch_tokens=128, shard_tokens=300, segment_entries=500, range_entries=8_000, range_features=12
)
PHASES = ("open", "tokens", "features", "commit", "finish")


def dictionaries(scene: Scene) -> list[Dictionary]:
    """Two of the scene's: one with dense, dead and rare features, one signed."""
    return [one for one in scene.dictionaries if one.id in ("1-relu", "1-signed")]


def attempt(scene: Scene, folder: Path, enter: Callable[[str], None]) -> None:
    """Go on from where the last attempt stopped, saying which phase it enters."""
    work = (scene.model, chosen := dictionaries(scene))
    shelf = open_for(_url(folder), *work)
    begin_runs(shelf, *work, scene.sequences, SETTINGS)

    def commit(sae_id: str, batch: FeatureBatch) -> None:
        enter("commit")
        put_features(shelf, sae_id, batch)

    report = precompute(
        *work, scene.sequences, spill_dir=folder / "spill", settings=SETTINGS, on_range=commit,
        done_ranges={one.id: committed_ranges(shelf, one.id) for one in chosen},
        on_progress=lambda phase, *_: enter(phase),
    )  # fmt: skip
    enter("finish")
    for one in chosen:
        finish_runs(shelf, {one.id: {"active": report.entries[one.id]}})


class Killer:
    """Forks attempts, and knows in which phase one is."""

    def __init__(self, scene: Scene, empty: Path) -> None:
        self._scene, self._empty = scene, empty
        self._phase = mmap.mmap(-1, 1)

    def start(self, folder: Path) -> None:
        """Begin with an empty shelf."""
        folder.mkdir()
        shutil.copy(self._empty, folder / "shelf.db")

    def run(self, folder: Path, seconds: float | None = None) -> str | None:
        """Fork an attempt; the phase that it was killed in, None when it was done before."""
        self._enter("open")
        child = os.fork()
        if child == 0:
            attempt(self._scene, folder, self._enter)
            os._exit(0)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return PHASES[self._phase[0]]
        assert os.WEXITSTATUS(status) == 0
        return None

    def _enter(self, phase: str) -> None:
        self._phase[0] = PHASES.index(phase)


def main(folder: Path, seed: int, kills: int) -> None:
    torch.set_num_threads(1)
    scene = build(folder / "scene")
    migrate(f"sqlite:///{folder}/empty.db")
    killer = Killer(scene, folder / "empty.db")
    killer.start(whole := folder / "whole")
    started = time.monotonic()
    killer.run(whole)
    longest = (time.monotonic() - started) / 2
    draw = random.Random(seed)
    phases, wrong, suspect, shelves = [], [], 0, 0
    while len(phases) < kills:
        killed = kill(killer, at := folder / f"killed-{shelves}", kills - len(phases),
                      lambda: draw.uniform(0, longest))  # fmt: skip
        found = differences(whole, at)
        wrong += [f"shelf {shelves}: {what}" for what in found]
        suspect += len(killed) if found else 0
        phases += killed
        shelves += 1
    told = {name: phases.count(name) for name in PHASES}
    print(json.dumps({"kills": told, "shelves": shelves, "wrong": wrong, "suspect": suspect}))


def kill(killer: Killer, at: Path, most: int, moment: Callable[[], float]) -> list[str]:
    """Phases in which attempts at a new shelf were killed, `most` at most, until it was done."""
    killer.start(at)
    phases: list[str] = []
    while len(phases) < most and (phase := killer.run(at, moment())):
        phases.append(phase)
    killer.run(at)
    return phases


def differences(whole: Path, killed: Path) -> list[str]:
    """What a killed shelf lacks of the whole one, or holds beside it, table by table."""
    shelves = [open_shelf(_url(folder)) for folder in (whole, killed)]
    expected, found = map(rows, shelves)
    check_index(shelves[1])
    for one in shelves:
        one.close()
    return [
        f"{table}: {len(lost)} rows lost, {len(more)} too many"
        for table in expected
        if (lost := _without(expected[table], found[table]))
        + (more := _without(found[table], expected[table]))
    ]


def _without(these: Sequence[tuple], others: Sequence[tuple]) -> list[str]:
    return list((Counter(map(repr, these)) - Counter(map(repr, others))).elements())


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/shelf.db"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
