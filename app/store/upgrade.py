"""Alembic over a shelf, one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.config import Config
from sqlalchemy import Connection, event, make_url, text

import migrations
from app.store.engine import autocommitting, bound_transactions, connected, transacting

_LOCK = 0x5AE5C0BE
"""Key of the Postgres advisory lock; any constant that nobody else uses."""

_TABLE_LOCK_S = 1
"""How long a change of a table waits for those who use it, with all who come after it behind it."""

_OF_A_FILE = ("page_size=8192", "auto_vacuum=INCREMENTAL", "journal_mode=WAL")
"""What a SQLite file remembers, in this order. Not for every connection: the second one writes."""


class Busy(Exception):
    """Another process is migrating."""


def configuration(connection: Connection) -> Config:
    """Alembic's configuration over an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    return config


@contextmanager
def exclusive(url: str) -> Iterator[Connection]:
    """A connection that no other process migrates beside. On Postgres, Busy when one does: who waited
    in a statement would hold a snapshot, and the other's CREATE INDEX CONCURRENTLY waits for those."""
    engine = transacting(url)
    try:
        if engine.dialect.name == "sqlite":
            with _file_lock(make_url(url).database):
                with connected(autocommitting(url)) as connection:
                    for pragma in _OF_A_FILE:
                        connection.exec_driver_sql(f"PRAGMA {pragma}")
                with engine.connect() as connection:
                    yield connection
        else:
            event.listen(engine, "connect", bound_transactions)
            with engine.connect() as connection:
                # A session's lock: the migration itself commits.
                lock = text("SELECT pg_try_advisory_lock(:key)")
                if not connection.execute(lock, {"key": _LOCK}).scalar():
                    raise Busy
                connection.execute(text(f"SET lock_timeout = '{_TABLE_LOCK_S}s'"))
                connection.commit()
                yield connection
    finally:
        engine.dispose()


@contextmanager
def _file_lock(database: str | None) -> Iterator[None]:
    # The journal mode can only change while nobody else holds the file, and SQLite does not wait
    # for that, so that its own locks are not enough here.
    path = Path(f"{database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
