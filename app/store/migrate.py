"""Bring a shelf's tables to the newest revision; safe when several processes start at once, and while
others answer requests.

A new revision: `alembic revision --autogenerate -m "..."` in the repository root, then set
`migrations.NEWEST`. It only adds, so that the version before it works on with the new tables, also when
it starts again. One that must break that sets `usable_from` to itself, and is for a stop of everything.

On Postgres a change of a table waits for the transactions that use it, and everybody else waits behind
the change. So it waits for a second, lets the others go, and tries again. How an index is added to a
large table is in docs/postgres.md.
"""

import logging
import time
from pathlib import Path

from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import OperationalError

from app.errors import Conflict, Unavailable
from app.store.engine import autocommitting, connected
from migrations import NEWEST

PATIENCE_S = 300.0
"""How long tables may be in use by transactions that do not end, or be changed by another process."""
AGAIN_S = 2.0
_LOCK_NOT_AVAILABLE = "55P03"
_IN_USE = (
    "The tables are in use and cannot be changed: transactions on them stay open (pg_stat_activity "
    "shows them, state 'idle in transaction')"
)
_BUSY = "The tables are being changed by another process (pg_locks shows it, locktype 'advisory')"

log = logging.getLogger(__name__)


def migrate(url: str, *, exactly: bool = False) -> None:
    """Upgrade the shelf at `url` to the newest revision. One process works, others wait. A newer version's
    tables stay as they are where they say that this version can use them, unless `exactly`.

    Conflict when it cannot, or the file is no database; Unavailable when somebody keeps the tables for
    too long.
    """
    found, usable_from = _revision(url)
    if found is None or found < NEWEST:
        _upgrade(url)
    elif found > NEWEST and (exactly or usable_from is None or usable_from > NEWEST):
        raise Conflict(
            f"The database is at revision {found}, this version knows up to {NEWEST}; use the "
            "version that wrote it, or another database."
        )


def _upgrade(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while hindrance := _hindrance(url):
        if time.monotonic() > deadline:
            raise Unavailable(f"{hindrance}; start again when that has ended.")
        log.warning("%s; trying again", hindrance)
        time.sleep(AGAIN_S)


def _hindrance(url: str) -> str | None:
    """Why the tables cannot be changed at this moment; None when they have been."""
    # Imported for this only: Alembic would add a tenth to the memory of a process that serves.
    from alembic import command

    from app.store.upgrade import Busy, configuration, exclusive

    try:
        with exclusive(url) as connection:
            command.upgrade(configuration(connection), "head")
    except Busy:
        return _BUSY
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return _IN_USE
    return None


def _revision(url: str) -> tuple[str | None, str | None]:
    """The revision that a shelf is at, and the first one whose program can use it; None when it has no
    tables, or does not say."""
    path = make_url(url).database
    if url.startswith("sqlite") and not Path(path or "").exists():
        return None, None
    with connected(autocommitting(url)) as connection:
        tables = set(inspect(connection).get_table_names())
        told = [
            connection.execute(text(f"SELECT {column} FROM {table}")).scalar()
            if table in tables
            else None
            for table, column in (("alembic_version", "version_num"), ("usable_from", "revision"))
        ]
    return told[0], told[1]
