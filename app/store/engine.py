"""The connection to the shelf: SQLite in a file, or Postgres by URL.

SQLite runs in WAL mode, so that readers never wait for a writer, with `synchronous=FULL`: in WAL
mode NORMAL already survives a kill -9 of the process (the operating system holds the pages), but a
power cut may take back commits that were acknowledged. Commits come about once a second here, so
the fsync that FULL adds to each costs nothing that can be measured. Write transactions begin
IMMEDIATE: a read that turns into a write under another writer cannot wait, it fails at once.

There are two pools. Reads of one statement run outside of transactions (autocommit), which saves
Postgres two round trips; reads of several that must agree take a snapshot. On Postgres a pool never
grows beyond its size; who finds no connection in it waits, and is told after a while. Each names its
connections (`application_name`), and a transaction that a stopped or lost process left open ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from sqlite3 import SQLITE_CORRUPT, SQLITE_NOTADB
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from app.errors import Conflict
from app.store.corpus import Corpus, StoredCorpus
from app.store.records import Vocabulary

BUSY_TIMEOUT_S = 30
"""Seconds that a SQLite writer waits for another."""

CORPORA_KEPT = 4
"""Corpora whose tokens a process keeps at once."""

CONNECT_TIMEOUT_S = 3
"""Seconds in which a Postgres server must have taken a connection."""

POOL = 5
"""Connections in a pool on Postgres."""

POOL_TIMEOUT_S = 5
"""Seconds in which one of them must have become free."""

IDLE_TRANSACTION_S = 60
"""Seconds after which Postgres ends a session that holds a transaction open and says nothing."""

LOCK_TIMEOUT_S = 10
"""Seconds that a statement on Postgres waits for somebody's lock."""

_DAMAGED = (SQLITE_CORRUPT, SQLITE_NOTADB)


@dataclass(frozen=True)
class Shelf:
    """An open shelf. Safe to share between threads, not between processes."""

    reader: Engine
    writer: Engine
    corpora: dict[int, Corpus] = field(default_factory=dict)
    """Corpora by number, with the tokens that were read; numbers are never used again."""
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    """Vocabularies by model fingerprint."""
    token_words: dict[str, list[list[str]]] = field(default_factory=dict)
    """The words of each token by model fingerprint; only writers need them."""
    name: str = "saescope"
    """What Postgres is told of who connects."""

    def corpus(self, stored: StoredCorpus) -> Corpus:
        """Windows of a corpus."""
        found = self.corpora.get(stored.number)  # another thread may make room meanwhile
        if found is None:
            if len(self.corpora) >= CORPORA_KEPT:
                self.corpora.clear()
            found = self.corpora[stored.number] = Corpus(stored)
        return found

    @property
    def is_sqlite(self) -> bool:
        return self.reader.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading, every statement on its own."""
        with self.reader.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection for reading, all of whose statements see the shelf at one moment."""
        if self.is_sqlite:
            with self.reader.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        else:
            with self.writer.connect() as connection:
                yield connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end and rolled back by an exception."""
        with self.writer.begin() as connection:
            yield connection

    def insert(self, table: Table) -> Any:
        """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def close(self) -> None:
        """Close all connections."""
        self.reader.dispose()
        self.writer.dispose()


def open_shelf(url: str, name: str = "saescope", pool: int = POOL) -> Shelf:
    """Open the shelf at a SQLAlchemy URL. `app.store.migrate.migrate` makes its tables."""
    reader = autocommitting(url, f"{name} read", pool)
    writer = transacting(url, f"{name} write", pool)
    if not url.startswith("sqlite"):
        for engine in (reader, writer):
            event.listen(engine, "connect", _bound_waits)
        event.listen(writer, "connect", bound_transactions)
    return Shelf(reader, writer, name=name)


def autocommitting(url: str, name: str = "saescope", pool: int = POOL) -> Engine:
    """An engine without transactions."""
    if url.startswith("sqlite"):
        return _sqlite(url)
    return _postgres(url, name, pool, isolation_level="AUTOCOMMIT")


def transacting(url: str, name: str = "saescope", pool: int = POOL) -> Engine:
    """An engine whose transactions may write."""
    if not url.startswith("sqlite"):
        return _postgres(url, name, pool)
    engine = _sqlite(url)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def jobs_engine(url: str, name: str, pool: int) -> Engine | None:
    """An engine for DBOS on Postgres; on SQLite it makes one of its own."""
    if url.startswith("sqlite"):
        return None
    engine = transacting(url, name, pool)
    event.listen(engine, "connect", bound_transactions)
    return engine


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """The only connection of an engine, in a transaction, and nothing left open behind it.

    Conflict when a file is no database.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorcode", None) not in _DAMAGED:
            raise
        raise Conflict(
            f"{engine.url.database} is damaged, or no SQLite database ({error.orig}); move it away, "
            "and restore a backup with `saescope restore` if there is one."
        ) from error
    finally:
        engine.dispose()


def connecting(name: str) -> dict[str, Any]:
    """How to connect to Postgres: a server that accepts and never answers, or is gone without a word,
    must not hold anybody for minutes."""
    return {
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }


def _postgres(url: str, name: str, pool: int, **options: Any) -> Engine:
    return _engine(
        url,
        connecting(name),
        pool_pre_ping=True,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        **options,
    )


def bound_transactions(connection: Any, _record: object) -> None:
    """For a Postgres engine's "connect": a session that stands still in a transaction is ended."""
    _set(connection, "idle_in_transaction_session_timeout", IDLE_TRANSACTION_S)


def _bound_waits(connection: Any, _record: object) -> None:
    _set(connection, "lock_timeout", LOCK_TIMEOUT_S)


def _set(connection: Any, name: str, seconds: int) -> None:
    # As a statement: poolers between us and Postgres refuse it as an option of the connection.
    connection.execute(f"SET {name} = '{seconds}s'")
    connection.commit()  # else the pool would take it back


def _sqlite(url: str) -> Engine:
    engine = _engine(url, {"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _engine(url: str, connect_args: dict[str, Any], **options: Any) -> Engine:
    # Errors are logged, and what is asked for is not to be.
    return create_engine(url, connect_args=connect_args, hide_parameters=True, **options)


def _prepare_sqlite(connection: SqliteConnection, _record: object) -> None:
    # The driver's own transaction handling would begin deferred and commit before DDL.
    connection.isolation_level = None
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
