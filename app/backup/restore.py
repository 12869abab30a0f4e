"""Puts a backup back, or changes nothing.

The whole archive is unpacked and verified beside the data, and both databases must be free, before
anything is changed. Folders are named by their contents, so they are moved in first and disturb
nobody; the databases, which are all that refers to them, are replaced last: Postgres in one
transaction, SQLite by renaming a file, the shelf first.
"""

import os
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select, update

from app.backup import archive, snapshot
from app.backup.snapshot import JOBS, SHELF
from app.errors import Conflict, Invalid
from app.settings import Settings
from app.store.engine import connected, transacting
from app.store.migrate import migrate
from app.store.tables import models, saes
from app.store.use import alone

_FOLDERS = ("models", "saes", "corpora")


def restore(settings: Settings, source: Path, *, force: bool = False) -> None:
    """Replace everything by what a backup holds.

    The caller sees to it that no worker uses the data (`app.supervisor.lock`).
    Conflict when there is something already, unless `force`, and when the data is in use; Invalid
    for a damaged archive.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        alone(settings.data_dir),
        tempfile.TemporaryDirectory(dir=settings.data_dir, prefix=".restore-") as name,
    ):
        if not force:
            _refuse_to_overwrite(settings)
        folder = Path(name)
        facts = archive.unpack(source, folder)
        _adapt(folder / SHELF, facts, settings.data_dir)
        if settings.shelf_url.startswith("sqlite"):
            _into_sqlite(settings, folder)
        else:
            _move_in(folder, settings.data_dir)
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
        migrate(url, exactly=True)
    except Conflict as error:
        raise Invalid(
            f"The backup was made by saescope {facts['saescope']}, which is newer than this "
            f"version ({version('saescope')}); install that one to restore it."
        ) from error
    with connected(transacting(url)) as connection:
        for table in (models, saes):
            paths = select(table.c.path).where(table.c.path != "").distinct()
            for path in connection.execute(paths).scalars().all():
                place = str(data_dir / table.name / Path(path).name)
                connection.execute(update(table).where(table.c.path == path).values(path=place))


def _move_in(folder: Path, data_dir: Path) -> None:
    """Move unpacked folders to their places, in exchange for those of the same contents."""
    for unpacked in [path for kind in _FOLDERS for path in (folder / kind).glob("*")]:
        place = data_dir / unpacked.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            place.rename(folder / f"replaced-{place.parent.name}-{place.name}")
        unpacked.rename(place)


def _into_sqlite(settings: Settings, folder: Path) -> None:
    places = {
        SHELF: Path(make_url(settings.shelf_url).database or ""),
        JOBS: Path(make_url(settings.jobs_url).database or ""),
    }
    for place in places.values():
        if place.exists():
            _check_free(place)
    _move_in(folder, settings.data_dir)
    for name, place in places.items():
        _replace(folder / name, place)


def _check_free(place: Path) -> None:
    """Conflict when a database is in use. Writes its log into it: one left beside the new file
    would be taken for the new file's."""
    try:
        snapshot.single_file(place)
        snapshot.use_wal(place)
    except sqlite3.DatabaseError as error:
        raise Conflict(
            f"{place} is in use or damaged ({error}); stop what uses it, or move it away, then "
            "restore again. Nothing was changed."
        ) from error


def _replace(new: Path, place: Path) -> None:
    """Put a database, or none, where another may be."""
    if new.exists():
        snapshot.use_wal(new)
        os.replace(new, place)
    else:
        place.unlink(missing_ok=True)
