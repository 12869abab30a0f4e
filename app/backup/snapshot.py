"""Copies of the databases for backups: always SQLite files, whatever they are taken from.

A SQLite database is copied as it is, by its online backup. From Postgres, the rows of all tables
are read in one repeatable-read transaction and written to new SQLite files, so that a backup of
one database can be restored to the other; the full-text index is made anew on the way.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    MetaData,
    Table,
    TypeDecorator,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.jobs import migrate_jobs
from app.store import catalog, search
from app.store.engine import autocommitting, connected, transacting
from app.store.migrate import migrate
from app.store.tables import (
    corpora,
    job_progress,
    list_items,
    lists,
    metadata,
    models,
    runs,
    splits,
    vectors,
)

SHELF, JOBS = "shelf.db", "jobs.db"
_ROWS_AT_ONCE = 500

_DBOS_OWN = {"dbos_migrations", "event_dispatch_kv"}
"""Tables that DBOS fills by itself, to match its version."""


class JsonText(TypeDecorator[str]):
    """JSON that DBOS keeps as text on SQLite."""

    impl = JSONB
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at this moment, while others write to it."""
    with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
        before.backup(after)
    single_file(target)


def single_file(path: Path) -> None:
    """Write a SQLite database's log into it and leave WAL mode, so that the file is all."""
    _set_journal(path, "DELETE")


def use_wal(path: Path) -> None:
    """Let readers of a SQLite database not wait for its writers; the file remembers it."""
    _set_journal(path, "WAL")


def _set_journal(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}").fetchone()


def from_postgres(url: str, folder: Path) -> None:
    """Write the shelf's and the jobs' tables to SQLite files in a folder, as of one moment."""
    shelf, jobs = f"sqlite:///{folder / SHELF}", f"sqlite:///{folder / JOBS}"
    migrate(shelf)
    engine = transacting(url).execution_options(isolation_level="REPEATABLE READ")
    with connected(engine) as source:
        with connected(transacting(shelf)) as target:
            _copy(source, metadata.sorted_tables, target, metadata.sorted_tables)
            search.add(target, 0, 2**63 - 1)
            catalog.index(target)
        if tables := _job_tables(source):
            migrate_jobs(jobs)
            with connected(transacting(jobs)) as target:
                _copy(source, tables, target, _job_tables(target))
            single_file(folder / JOBS)
    single_file(folder / SHELF)


def into_postgres(url: str, folder: Path) -> None:
    """Replace the rows of all tables by those of a folder's files, in one transaction."""
    migrate(url)
    if (folder / JOBS).exists():
        migrate_jobs(url)
    with connected(transacting(url)) as target:
        for table in reversed([*_job_tables(target), *metadata.sorted_tables]):
            target.execute(table.delete())
        with connected(autocommitting(f"sqlite:///{folder / SHELF}")) as source:
            _copy(source, metadata.sorted_tables, target, metadata.sorted_tables)
        with connected(autocommitting(f"sqlite:///{folder / JOBS}")) as source:
            _copy(source, _job_tables(source), target, _job_tables(target))
        for table in (runs, corpora, splits, list_items):
            last = select(func.coalesce(func.max(table.c.number), 0)).scalar_subquery()
            counter = func.pg_get_serial_sequence(table.name, "number")
            target.execute(select(func.setval(counter, last + 1, text("false"))))


def is_empty(url: str) -> bool:
    """Whether a database holds no model, no run, no job, and nothing that people keep in it."""
    path = make_url(url).database
    if url.startswith("sqlite") and not Path(path or "").exists():
        return True
    with connected(autocommitting(url)) as connection:
        names = {table.name for table in _tables(connection, None)}
        held = [
            table for table in (models, runs, job_progress, lists, vectors) if table.name in names
        ]
        held += [table for table in _job_tables(connection) if table.name == "workflow_status"]
        return all(connection.execute(select(table).limit(1)).first() is None for table in held)


def _copy(
    source: Connection, tables: list[Table], target: Connection, target_tables: list[Table]
) -> None:
    """Copy rows of tables that both have, by the columns that both have, in the given order."""
    targets = {table.name: table for table in target_tables}
    for table in tables:
        if table.name in targets:
            into = targets[table.name]
            columns = [column for column in table.columns if column.name in into.columns]
            query = select(*columns).execution_options(yield_per=_ROWS_AT_ONCE)
            for rows in source.execute(query).mappings().partitions():
                target.execute(into.insert(), [dict(row) for row in rows])


def _job_tables(connection: Connection) -> list[Table]:
    """DBOS' tables, in the order of their foreign keys; none before its first start."""
    schema = None if connection.dialect.name == "sqlite" else "dbos"
    tables = _tables(connection, schema)
    for table in tables:
        for column in table.columns:
            if isinstance(column.type, JSONB):
                column.type = JsonText()
    return [table for table in tables if table.name not in _DBOS_OWN]


def _tables(connection: Connection, schema: str | None) -> list[Table]:
    found = MetaData()
    found.reflect(connection, schema=schema)
    return found.sorted_tables
