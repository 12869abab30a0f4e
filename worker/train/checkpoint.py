"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint is a folder `step-000000123` with a folder for each SAE, numbered: the files that SAELens
itself writes (weights, Adam's moments, schedules, dead-feature counters, activation scaler), the
states of the random generators and the metric curve so far. Beside them are `run.json` (what is being
trained) and `digests.json` (sha256 of all the others). The data needs no saving, see `order.py`.
Nothing is ever unpickled but plain tensors and numbers (`weights_only`).
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.errors import Conflict
from worker.durable import remove_folder, sweep, write_folder
from worker.train.member import Member

KEPT = 2
DIGESTS = "digests.json"

log = logging.getLogger(__name__)


def save(folder: Path, members: Sequence[Member]) -> None:
    """Write a checkpoint of all SAEs, which are at the same step, and drop all but the last two."""

    def fill(partial: Path) -> None:
        for number, member in enumerate(members):
            (partial / str(number)).mkdir()
            member.save(partial / str(number))
        run = {"recipe": [member.provenance for member in members]}
        (partial / "run.json").write_text(json.dumps(run))
        (partial / DIGESTS).write_text(json.dumps(_digests(partial)))

    final = folder / f"step-{members[0].done:09d}"
    remove_folder(final)
    write_folder(final, fill)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        remove_folder(old)


def restore(folder: Path, members: Sequence[Member]) -> None:
    """Put the newest undamaged checkpoint into the SAEs; without one leave them as they are.

    Throws away what a kill left half-written, and what is damaged.

    Raises:
        Conflict: the checkpoint is of another run (other settings, model or corpus).
    """
    sweep(folder)
    path = next(_undamaged(folder), None)
    if path is None:
        return
    recipe = json.loads((path / "run.json").read_text())["recipe"]
    if recipe != [member.provenance for member in members]:
        raise Conflict(
            "The checkpoint folder holds a run with other settings, model or corpus; "
            "give every run a folder of its own."
        )
    for number, member in enumerate(members):
        member.load(path / str(number))


def _undamaged(folder: Path) -> Iterator[Path]:
    """Checkpoints whose files are what was written, newest first."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            intact = _digests(path) == json.loads((path / DIGESTS).read_text())
        except (OSError, ValueError):
            intact = False
        if intact:
            yield path
        else:
            log.warning("checkpoint %s is damaged; going back to the one before", path.name)
            remove_folder(path)  # it would keep the place of a sound one


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != DIGESTS:
            with path.open("rb") as file:
                name = str(path.relative_to(folder))
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
