"""One file that holds everything: both databases as of one moment, models, SAEs, corpora.

Not in it: checkpoints and spill files (a job that was running when the backup was made begins
again when it is restored) and the secret between the API and the live worker, which is made anew.

Restoring unpacks and verifies the whole archive beside the data before it changes anything. Folders
are named by their contents, so they are moved in first and disturb nobody; the databases, which
are all that refers to them, are replaced last: Postgres in one transaction, SQLite by renaming a
file. Whatever fails before that leaves everything as it was.
"""

import os
import sqlite3
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import func, literal, make_url, select, update

from app.errors import Conflict, Invalid, NotFound
from app.settings import Settings
from app.store import archive, snapshot
from app.store.engine import autocommitting, connected, transacting
from app.store.migrate import migrate
from app.store.snapshot import JOBS, SHELF
from app.store.tables import corpora, models, saes

_FOLDERS = ("models", "saes", "corpora")


def backup(settings: Settings, target: Path) -> None:
    """Write a backup to a new file. Everything may go on running meanwhile."""
    if target.exists():
        raise Conflict(f"{target} is there already; choose another name or delete it.")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        folder = Path(name)
        _snapshot(settings, folder)
        databases = [(folder / name, name) for name in (SHELF, JOBS) if (folder / name).exists()]
        facts = {
            "created_at": datetime.now(UTC).isoformat(),
            "saescope": version("saescope"),
            "data_dir": str(settings.data_dir),
        }
        archive.write(folder / "archive", [*databases, *_files(settings, folder / SHELF)], facts)
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


def _files(settings: Settings, shelf: Path) -> list[tuple[Path, str]]:
    """The folders that the copied shelf refers to, where they lie and what they are called.

    Corpora are whole on the shelf; their folders only save jobs from cutting text again.
    """
    with connected(autocommitting(f"sqlite:///{shelf}")) as connection:
        paths = list(connection.execute(select(models.c.path)).scalars())
        paths += connection.execute(select(saes.c.path).where(saes.c.path != "")).scalars()
        ids = connection.execute(select(corpora.c.id)).scalars().all()
    inside = [Path(path) for path in paths if Path(path).is_relative_to(settings.data_dir)]
    for path in inside:
        if not path.is_dir():
            raise Conflict(f"{path} is on the shelf but not on disk; delete what it belongs to.")
    inside += [p for id in ids if (p := settings.data_dir / "corpora" / id[:16]).is_dir()]
    return [(path, path.relative_to(settings.data_dir).as_posix()) for path in inside]


def restore(settings: Settings, source: Path, *, force: bool = False) -> None:
    """Replace everything by what a backup holds.

    The caller sees to it that no other process uses the data (`app.supervisor.lock.only_one`).
    Conflict when there is something already, unless `force`; Invalid for a damaged archive.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if not force:
        _refuse_to_overwrite(settings)
    with tempfile.TemporaryDirectory(dir=settings.data_dir, prefix=".restore-") as name:
        folder = Path(name)
        facts = archive.unpack(source, folder)
        _adapt(folder / SHELF, facts, settings.data_dir)
        _move_in(folder, settings.data_dir)
        if settings.shelf_url.startswith("sqlite"):
            _replace(folder / JOBS, Path(make_url(settings.jobs_url).database or ""))
            _replace(folder / SHELF, Path(make_url(settings.shelf_url).database or ""))
        else:
            snapshot.into_postgres(settings.shelf_url, folder)


def _refuse_to_overwrite(settings: Settings) -> None:
    full = [kind for kind in _FOLDERS if any((settings.data_dir / kind).glob("*"))]
    if full or not all(snapshot.is_empty(url) for url in (settings.shelf_url, settings.jobs_url)):
        raise Conflict(
            f"{settings.data_dir} or its database holds data already, which restoring replaces; "
            "use --force if that is meant, or another SAESCOPE_DATA_DIR and database."
        )


def _adapt(shelf: Path, facts: dict[str, Any], data_dir: Path) -> None:
    """Bring an unpacked shelf to this version's tables and this data folder's paths."""
    url = f"sqlite:///{shelf}"
    try:
        migrate(url)
    except Conflict as error:
        raise Invalid(
            f"The backup was made by saescope {facts['saescope']}, which is newer than this "
            f"version ({version('saescope')}); install that one to restore it."
        ) from error
    before = facts["data_dir"]
    with connected(transacting(url)) as connection:
        for table in (models, saes):
            tail = func.substr(table.c.path, len(before) + 1)
            connection.execute(
                update(table)
                .where(func.substr(table.c.path, 1, len(before) + 1) == before + os.sep)
                .values(path=literal(str(data_dir)).concat(tail))
            )
    snapshot.single_file(shelf)


def _move_in(folder: Path, data_dir: Path) -> None:
    """Move unpacked folders to their places, in exchange for those of the same contents."""
    for unpacked in [path for kind in _FOLDERS for path in (folder / kind).glob("*")]:
        place = data_dir / unpacked.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            place.rename(folder / f"replaced-{place.parent.name}-{place.name}")
        unpacked.rename(place)


def _replace(new: Path, place: Path) -> None:
    """Put a database, or none, where another may be."""
    if place.exists():
        try:
            # A log left beside the new file would be taken for the new file's.
            snapshot.single_file(place)
        except sqlite3.DatabaseError as error:
            raise Conflict(
                f"{place} is in use or damaged ({error}); stop what uses it, or move it away, then "
                "restore again."
            ) from error
    if new.exists():
        os.replace(new, place)
    else:
        place.unlink(missing_ok=True)
