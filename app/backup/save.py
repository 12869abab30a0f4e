"""One file that holds everything: both databases as of one moment, models, SAEs, corpora.

Not in it: checkpoints and spill files (a job that was running when the backup was made begins
again when it is restored) and the secret between the API and the live worker, which is made anew.
"""

import os
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Table, make_url, select

from app.backup import archive, snapshot
from app.backup.snapshot import JOBS, SHELF
from app.errors import Conflict, NotFound
from app.settings import Settings
from app.store.engine import autocommitting, connected
from app.store.tables import corpora, models, saes


def backup(settings: Settings, target: Path) -> None:
    """Write a backup to a new file. Everything may go on running meanwhile."""
    if target.exists():
        raise Conflict(f"{target} is there already; choose another name or delete it.")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        folder = Path(name)
        _snapshot(settings, folder)
        databases = [(folder / name, name) for name in (SHELF, JOBS) if (folder / name).exists()]
        facts = {"created_at": datetime.now(UTC).isoformat(), "saescope": version("saescope")}
        files = _files(settings.data_dir, folder / SHELF)
        archive.write(folder / "archive", [*databases, *files], facts)
        os.replace(folder / "archive", target)


def _snapshot(settings: Settings, folder: Path) -> None:
    if not settings.shelf_url.startswith("sqlite"):
        snapshot.from_postgres(settings.shelf_url, folder)
        return
    # Jobs first: evidence of a job that is not done yet does no harm, the reverse would.
    for url, name in ((settings.jobs_url, JOBS), (settings.shelf_url, SHELF)):
        path = Path(make_url(url).database or "")
        if path.exists():
            snapshot.copy_sqlite(path, folder / name)
        elif name == SHELF:
            raise NotFound(f"There is nothing to back up: {path} does not exist.")


def _files(data_dir: Path, shelf: Path) -> list[tuple[Path, str]]:
    """The folders that the copied shelf refers to, where they lie and what they are called.

    Corpora are whole on the shelf; their folders only save jobs from cutting text again.
    """
    with connected(autocommitting(f"sqlite:///{shelf}")) as connection:
        named = {
            table: connection.execute(
                select(table.c.path).where(table.c.path != "").distinct()
            ).scalars().all()
            for table in (models, saes)
        }  # fmt: skip
        ids = connection.execute(select(corpora.c.id)).scalars().all()
    found = [
        _folder(data_dir, table, Path(path)) for table, paths in named.items() for path in paths
    ]
    found += [path for id in ids if (path := data_dir / "corpora" / id[:16]).is_dir()]
    return [(path, f"{path.parent.name}/{path.name}") for path in found]


def _folder(data_dir: Path, table: Table, stored: Path) -> Path:
    """A model's or an SAE's folder, however the shelf spells the way to it."""
    place = data_dir / table.name
    if stored.parent.resolve() != place.resolve():
        raise Conflict(
            f"{stored} is on the shelf but not in {place}, so that it cannot be backed up; set "
            "SAESCOPE_DATA_DIR to the folder that it is in, or delete what it belongs to."
        )
    if not stored.is_dir():
        raise Conflict(f"{stored} is on the shelf but not on disk; delete what it belongs to.")
    return place / stored.name
