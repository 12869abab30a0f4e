"""What was done by whom: an entry for each request that changes something, and for each key made or revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from app.store import tables as t
from app.store.engine import Shelf

KEPT = 100_000
"""Entries that stay when garbage is collected."""
LOCALLY = "(this machine)"
"""Who does things without a key: whoever may run commands here, or ask on loopback."""


@dataclass(frozen=True)
class Entry:
    """One thing that was done."""

    at: datetime
    who: str
    """Id of a key, or `LOCALLY`."""
    action: str
    """Method and path, or a command."""
    outcome: str
    """HTTP status, with where that is what was made; or `done`."""


def put(shelf: Shelf, who: str, action: str, outcome: str) -> None:
    """Write an entry."""
    row = {"at": datetime.now(UTC), "who": who, "action": action, "outcome": outcome}
    with shelf.write() as connection:
        connection.execute(t.audit.insert(), row)


def latest(shelf: Shelf, limit: int) -> list[Entry]:
    """The last entries, newest first."""
    c = t.audit.c
    query = select(c.at, c.who, c.action, c.outcome).order_by(c.number.desc()).limit(limit)
    with shelf.read() as connection:
        return [Entry(*row) for row in connection.execute(query)]


def trim(shelf: Shelf, kept: int = KEPT) -> None:
    """Drop all entries but the last ones."""
    number = t.audit.c.number
    with shelf.write() as connection:
        last = connection.execute(select(func.max(number))).scalar()
        if last is not None:
            connection.execute(t.audit.delete().where(number <= last - kept))
