"""Collects what nobody refers to: evidence, corpora and folders that deletions left behind.

Rows first, in transactions of a fraction of a second, runs before the corpora that they name; then
folders. Evidence goes when its run is superseded. What a job may still be about to refer to (a
corpus without a run, a folder) goes only when it has been left alone for an hour, and a run that
was begun and never finished after thirty days, since its job may be retried until then. Corpora
that a job has noted among its checkpoints stay with them. Lists and vectors are people's own: they
stay when what they name is gone, until their owners delete them.
"""

import math
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Column, and_, bindparam, delete, func, or_, select, update

from app.store import search
from app.store.engine import Shelf
from app.store.tables import (
    ROW_BITS,
    corpora,
    corpus_chunks,
    features,
    job_progress,
    kept_columns,
    models,
    neuron_splits,
    packed_id,
    run_ranges,
    runs,
    saes,
    splits,
)
from app.store.use import using

LEFT_ALONE = timedelta(hours=1)
ABANDONED = timedelta(days=30)
_KINDS = ("checkpoints", "spill", "models", "saes", "corpora")
"""Folders of folders, corpora after the checkpoints that name them."""
_ROWS_A_TRANSACTION = 1_000
_FREED_PAGES_A_TRANSACTION = 2_000


@dataclass(frozen=True)
class Collected:
    """What was freed."""

    features: int
    corpora: int
    folders: int
    folder_bytes: int


def collect_garbage(shelf: Shelf, data_dir: Path, left_alone: timedelta = LEFT_ALONE) -> Collected:
    """Free what nobody refers to and nobody touched for `left_alone`."""
    before = datetime.now(UTC) - left_alone
    with using(data_dir):
        n_features = sum(_collect_run(shelf, number) for number in _dead_runs(shelf))
        n_corpora = _collect_corpora(shelf, before)
        if shelf.is_sqlite:
            _shrink(shelf)
        sizes = []
        for folder in _dead_folders(shelf, data_dir, before.timestamp()):
            with suppress(FileNotFoundError):  # whose it was has just removed it
                sizes.append(_remove(folder))
    return Collected(n_features, n_corpora, len(sizes), sum(sizes))


def _dead_runs(shelf: Shelf) -> list[int]:
    abandoned = and_(runs.c.state == "building", runs.c.updated_at < datetime.now(UTC) - ABANDONED)
    query = select(runs.c.number).where(or_(runs.c.state == "superseded", abandoned))
    with shelf.read() as connection:
        return list(connection.execute(query).scalars())


def _collect_run(shelf: Shelf, number: int) -> int:
    """Delete a run, what it is split into or splits, its features in slices; how many there were."""
    with shelf.write() as connection:
        # An abandoned run's job may wake up: from here on it is refused.
        connection.execute(update(runs).where(runs.c.number == number).values(state="superseded"))
        connection.execute(delete(run_ranges).where(run_ranges.c.run == number))
    _collect_splits(shelf, number)
    deleted = _delete_owned(shelf, features.c.id, number)
    _delete_owned(shelf, kept_columns.c.id, number)
    with shelf.write() as connection:
        connection.execute(delete(runs).where(runs.c.number == number))
    return deleted


def _collect_splits(shelf: Shelf, run: int) -> None:
    """Delete splits of a run's neurons, and splits by its features."""
    of_run = or_(splits.c.neurons_run == run, splits.c.sae_run == run)
    with shelf.read() as connection:
        numbers = connection.execute(select(splits.c.number).where(of_run)).scalars().all()
    for number in numbers:
        _delete_owned(shelf, neuron_splits.c.id, number)
        with shelf.write() as connection:
            # A job that writes it waits for the lock, and then finds no split.
            connection.execute(select(splits).filter_by(number=number).with_for_update())
            connection.execute(delete(neuron_splits).filter_by(split=number))
            connection.execute(delete(splits).filter_by(number=number))


def _collect_corpora(shelf: Shelf, before: datetime) -> int:
    """Delete corpora that no run names, then chunks that no corpus owns; how many corpora."""
    dead = and_(corpora.c.used_at <= before, corpora.c.number.not_in(select(runs.c.corpus)))
    with shelf.write() as connection:
        n_corpora = connection.execute(delete(corpora).where(dead)).rowcount
    for owner in _orphans(shelf):
        _delete_owned(shelf, corpus_chunks.c.id, owner)
    return n_corpora


def _orphans(shelf: Shelf) -> list[int]:
    """Numbers of corpora of which there are chunks only."""
    with shelf.snapshot() as connection:
        alive = set(connection.execute(select(corpora.c.number)).scalars())
        found, after = [], 0
        next_id = select(func.min(corpus_chunks.c.id)).where(corpus_chunks.c.id >= bindparam("id"))
        while (id := connection.execute(next_id, {"id": after}).scalar()) is not None:
            owner = id >> ROW_BITS
            after = packed_id(owner + 1, 0)
            if owner not in alive:
                found.append(owner)
    return found


def _delete_owned(shelf: Shelf, id: Column[int], owner: int) -> int:
    """Delete the rows of a run or corpus, a slice a transaction; how many there were."""
    lowest, beyond = packed_id(owner, 0), packed_id(owner + 1, 0)
    ids = select(id).where(id >= lowest, id < beyond).order_by(id).limit(_ROWS_A_TRANSACTION)
    last = select(func.max(ids.subquery().c.id))
    total = 0
    while True:
        with shelf.write() as connection:
            stop = connection.execute(last).scalar()
            if stop is None:
                return total
            if id.table is features:
                search.forget(connection, lowest, stop + 1)
            slice = delete(id.table).where(id >= lowest, id <= stop)
            total += connection.execute(slice).rowcount


def _shrink(shelf: Shelf) -> None:
    """Give a SQLite file's free pages back to the disk."""
    left, free = None, _free_some(shelf)
    while free != left:
        left, free = free, _free_some(shelf)
    with shelf.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()


def _free_some(shelf: Shelf) -> int:
    """Free some pages; how many there are still to free."""
    with shelf.write() as connection:
        driver: Any = connection.connection.dbapi_connection
        # Frees a page for every row that is fetched, and the rows have no columns.
        driver.execute(f"PRAGMA incremental_vacuum({_FREED_PAGES_A_TRANSACTION})").fetchall()
        return driver.execute("PRAGMA freelist_count").fetchone()[0]


def _dead_folders(shelf: Shelf, data_dir: Path, before: float) -> Iterator[Path]:
    """Folders of the data folder that nobody refers to and that nothing changed in since `before`,
    each looked at once more when it is its turn."""
    for kind in _KINDS:
        names = _referred(shelf, data_dir)[kind]
        for folder in (data_dir / kind).glob("*"):
            if not folder.is_dir() or folder.name in names:
                continue
            if folder.name not in _referred(shelf, data_dir)[kind] and _changed(folder) <= before:
                yield folder
    for left_by_restore in data_dir.glob(".restore-*"):
        if _changed(left_by_restore) <= before:
            yield left_by_restore


def _referred(shelf: Shelf, data_dir: Path) -> dict[str, set[str]]:
    """Names of folders that something refers to, by the folder that they are in."""
    noted = _noted_corpora(data_dir)
    with shelf.snapshot() as connection:

        def column(of: Column[str]) -> list[str]:
            return list(connection.execute(select(of)).scalars())

        jobs = set(column(job_progress.c.job_id))
        return {
            "checkpoints": jobs,
            "spill": {fingerprint[:16] for fingerprint in column(saes.c.fingerprint)},
            "models": {Path(path).name for path in column(models.c.path)},
            "saes": {Path(path).name for path in column(saes.c.path)},
            "corpora": {id[:16] for id in [*column(corpora.c.id), *noted]},
        }


def _noted_corpora(data_dir: Path) -> list[str]:
    """Ids of the corpora that jobs work on, as `worker.jobs.corpus` notes them."""
    found = []
    for note in (data_dir / "checkpoints").glob("*/corpus.json"):
        with suppress(FileNotFoundError):  # its job has just ended
            found.append(orjson.loads(note.read_bytes())["id"])
    return found


def _changed(folder: Path) -> float:
    """Unix time of the newest change in a folder. Copies keep their times of modification, so
    that the times of their inodes count as well. A file that vanishes is a change."""
    try:
        stats = [path.lstat() for path in [folder, *folder.rglob("*")]]
    except FileNotFoundError:
        return math.inf
    return max(max(stat.st_mtime, stat.st_ctime) for stat in stats)


def _remove(folder: Path) -> int:
    """Delete a folder, its name first: what bears its name is whole. The bytes its files had."""
    doomed = folder.with_name(f".{folder.name.lstrip('.')}.{secrets.token_hex(8)}")
    folder.rename(doomed)
    size = sum(path.lstat().st_size for path in doomed.rglob("*") if path.is_file())
    shutil.rmtree(doomed)
    return size
