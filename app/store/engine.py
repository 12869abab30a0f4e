"""The connection to the shelf: SQLite in a file, or Postgres by URL.

SQLite runs in WAL mode, so that readers never wait for a writer, with `synchronous=FULL`: in WAL
mode NORMAL already survives a kill -9 of the process (the operating system holds the pages), but a
power cut may take back commits that were acknowledged. Commits come about once a second here, so
the fsync that FULL adds to each costs nothing that can be measured. Write transactions begin
IMMEDIATE: a read that turns into a write under another writer cannot wait, it fails at once.

Reads of one statement run outside of transactions (autocommit), which saves Postgres two round
trips; reads of several that must agree take a snapshot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

from app.store.cache import ByteCache
from app.store.records import Vocabulary

BUSY_TIMEOUT_S = 30
"""Seconds that a SQLite writer waits for another."""

CACHED_TOKEN_BYTES = 16 * 2**20
"""Corpus tokens kept in memory by one process."""


@dataclass(frozen=True)
class Shelf:
    """An open shelf. Safe to share between threads, not between processes."""

    engine: Engine
    chunks: ByteCache = field(default_factory=lambda: ByteCache(CACHED_TOKEN_BYTES))
    """Corpus chunks by packed id; they never change and their ids are never used again."""
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    """Vocabularies by model fingerprint."""
    token_words: dict[str, list[list[str]]] = field(default_factory=dict)
    """The words of each token by model fingerprint; only writers need them."""

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading, every statement on its own."""
        options: dict[str, Any] = (
            {"begin": None} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        )
        with self.engine.connect() as connection:
            yield connection.execution_options(**options)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection for reading, all of whose statements see the shelf at one moment."""
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end and rolled back by an exception."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection = connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    def insert(self, table: Table) -> Any:
        """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_shelf(url: str) -> Shelf:
    """Open the shelf at a SQLAlchemy URL. `app.store.migrate.migrate` makes its tables."""
    return Shelf(make_engine(url))


def make_engine(url: str) -> Engine:
    """An engine with the pragmas or the liveness checks that the shelf wants."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: SqliteConnection, _record: object) -> None:
    # The driver's own transaction handling would begin deferred and commit before DDL.
    connection.isolation_level = None
    for pragma in (
        "page_size=8192",
        "auto_vacuum=INCREMENTAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)
