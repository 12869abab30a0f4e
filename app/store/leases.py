"""Which jobs workers live: each holds a lease that it renews, by the clock of the database.

A worker whose lease ran out is judged dead by the others, which take its lease away and run its
jobs. It may be alive all the same: stopped, cut off, or slow. So a job writes to the shelf only
while its worker has the lease under which it was begun (`Fenced`), checked in the transaction that
writes. Whoever takes a lease waits for such a transaction, or leaves that lease for the next time.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum

from sqlalchemy import ColumnElement, Connection, Double, case, literal_column, select, update

from app.store.engine import Shelf
from app.store.tables import workers

LEASE_S = 30.0
"""How long a worker may be silent before others run its jobs."""
FORGOTTEN_S = 24 * 3600.0
"""How long a worker that is gone is still listed: names of containers change."""


class Lost(Exception):
    """The worker's lease was taken, and another may be running its jobs."""


class Standing(Enum):
    """What became of a lease that was to be renewed."""

    HELD = "held"
    SETTLED = "held for as long as a lease lasts"
    """Others had time to renew theirs since this worker, or the database, was away."""
    TAKEN = "taken, since it had run out"
    ANOTHERS = "another process has taken the same name"


@dataclass(frozen=True)
class Lease:
    """A process' hold on a worker's name."""

    worker: str
    token: str
    """Drawn at random; another process, or the same one later, has another."""
    seconds: float = LEASE_S


@dataclass(frozen=True)
class Worker:
    """A jobs worker, as the database knows it."""

    name: str
    holds: bool
    """Whether its lease holds."""
    since: datetime
    """When it got the lease, or went on with it after it had run out."""
    until: datetime
    """When the lease runs out, or ran out."""


def acquire(shelf: Shelf, worker: str, seconds: float = LEASE_S) -> Lease:
    """Take a worker's name, also from a process that bears it still: a worker that was killed is
    the same one when it starts again, and need not wait."""
    lease = Lease(worker, secrets.token_hex(8), seconds)
    c, now = workers.c, _now(shelf)
    row = {"token": lease.token, "since": now, "until": now + seconds}
    added = shelf.insert(workers).values(name=worker, **row)
    with shelf.write() as connection:
        # For what that process writes at this moment: the update alone would not wait for it.
        connection.execute(select(c.name).where(c.name == worker).with_for_update())
        connection.execute(added.on_conflict_do_update(index_elements=["name"], set_=row))
    return lease


def renew(shelf: Shelf, lease: Lease) -> Standing:
    """Hold a lease for another `seconds`; also one that ran out, if nobody took it."""
    c, now = workers.c, _now(shelf)
    held = update(workers).where(c.name == lease.worker, c.token == lease.token)
    since = case((_ran_out(now), now), else_=c.since)
    renewed = held.values(since=since, until=now + lease.seconds)
    settled = c.since <= now - lease.seconds
    with shelf.write() as connection:
        row = connection.execute(renewed.returning(settled)).first()
        if row is not None:
            return Standing.SETTLED if row[0] else Standing.HELD
        token = select(c.token).where(c.name == lease.worker)
        return Standing.ANOTHERS if connection.execute(token).scalar() else Standing.TAKEN


@contextmanager
def taking_over(shelf: Shelf, busy: set[str]) -> Iterator[set[str]]:
    """Those of the workers that have jobs whose lease ran out, or that have none. They have lost it when
    the block begins, however it ends, and none of them gets another inside."""
    c, now = workers.c, _now(shelf)
    with shelf.write() as connection:
        connection.execute(workers.delete().where(c.until < now - FORGOTTEN_S))
        for name in sorted(busy):
            never = {"token": "", "since": 0.0, "until": 0.0}
            row = shelf.insert(workers).values(name=name, **never)
            connection.execute(row.on_conflict_do_nothing())
        ran_out = select(c.name).where(c.name.in_(busy), _ran_out(now))
        # Not those that another worker takes, nor those that write at this moment.
        names = set(connection.execute(ran_out.with_for_update(skip_locked=True)).scalars())
        connection.execute(update(workers).where(c.name.in_(names)).values(token=""))
    with shelf.write() as connection:
        taken = select(c.name).where(c.name.in_(names), c.token == "")
        yield set(connection.execute(taken.with_for_update(skip_locked=True)).scalars())


def all_workers(shelf: Shelf) -> list[Worker]:
    """Every worker that there was in the last day, by name, and whether its lease holds."""
    c = workers.c
    query = select(c.name, ~_ran_out(_now(shelf)) & (c.token != ""), c.since, c.until)
    with shelf.read() as connection:
        rows = connection.execute(query.where(c.until > 0).order_by(c.name)).all()
    return [Worker(row[0], bool(row[1]), _time(row[2]), _time(row[3])) for row in rows]


@dataclass(frozen=True)
class Fenced(Shelf):
    """A shelf that takes nothing from a worker whose lease was taken."""

    lease: Lease = field(kw_only=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction. Raises Lost, and writes nothing, when the lease was taken."""
        c = workers.c
        held = select(c.name).where(c.name == self.lease.worker, c.token == self.lease.token)
        with super().write() as connection:
            # Against those who take leases, not against the renewal of this one.
            lock = held.with_for_update(read=True, key_share=True)
            if connection.execute(lock).first() is None:
                raise Lost(f"The lease of {self.lease.worker} was taken.")
            yield connection


def fenced(shelf: Shelf, lease: Lease) -> Fenced:
    """The same shelf, for a job that is begun under a lease."""
    return Fenced(**{one.name: getattr(shelf, one.name) for one in fields(Shelf)}, lease=lease)


def _ran_out(now: ColumnElement[float]) -> ColumnElement[bool]:
    """Also a lease of the future: the clock was set back, and whoever lives renews by the new time."""
    return (workers.c.until < now) | (workers.c.since > now)


def _now(shelf: Shelf) -> ColumnElement[float]:
    """Seconds since 1970 by the clock of the database, so that a machine's own may be wrong."""
    if shelf.is_sqlite:
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)
    return literal_column("(extract(epoch from clock_timestamp())::double precision)", Double)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
