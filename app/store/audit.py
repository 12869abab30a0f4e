"""What was done by whom: an entry for each request that changes something, and for each key made or revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from app.store import tables as t
from app.store.engine import Shelf

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
    """HTTP status, or `done`."""


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
