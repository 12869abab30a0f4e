"""Keys: made, looked up, counted, revoked."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from sqlalchemy import select, update

from app import keys
from app.errors import NotFound
from app.keys import Key, Scope
from app.store import tables as t
from app.store.engine import Shelf

_KEY = [t.keys.c[name] for name in Key.__dataclass_fields__]


def create(
    shelf: Shelf,
    name: str,
    scope: Scope,
    per_minute: int | None = None,
    per_day: int | None = None,
) -> tuple[Key, str]:
    """Make a key; the text that is its holder's alone."""
    secret = keys.new_secret()
    key = Key(
        id=keys.new_id(),
        name=name,
        scope=scope,
        digest=keys.digest(secret),
        per_minute=per_minute,
        per_day=per_day,
        created_at=datetime.now(UTC),
    )
    with shelf.write() as connection:
        connection.execute(t.keys.insert(), vars(key))
    return key, keys.written(key.id, secret)


def all_of_them(shelf: Shelf) -> list[Key]:
    """Every key, those that were revoked among them, in the order in which they were made."""
    query = select(*_KEY).order_by(t.keys.c.created_at, t.keys.c.id)
    with shelf.read() as connection:
        return [Key(*row) for row in connection.execute(query)]


def revoke(shelf: Shelf, id: str) -> None:
    """Let a key be none any more. One that was revoked before stays so."""
    c = t.keys.c
    with shelf.write() as connection:
        if connection.execute(select(c.id).where(c.id == id)).first() is None:
            raise NotFound(f"There is no key '{id}'; `saescope keys list` lists them.")
        query = update(t.keys).where(c.id == id, c.revoked_at.is_(None))
        connection.execute(query.values(revoked_at=datetime.now(UTC)))


def count(
    shelf: Shelf, used: Mapping[str, datetime], requests: Mapping[str, int], day: date
) -> None:
    """Add requests of a day, by key, and tell when keys were used last."""
    with shelf.write() as connection:
        for id, when in sorted(used.items()):
            connection.execute(update(t.keys).where(t.keys.c.id == id).values(used_at=when))
        for id, number in sorted(requests.items()):
            row = shelf.insert(t.key_days).values(key=id, day=day, requests=number)
            more = t.key_days.c.requests + number
            connection.execute(
                row.on_conflict_do_update(index_elements=["key", "day"], set_={"requests": more})
            )


def counted(shelf: Shelf, day: date) -> dict[str, int]:
    """Requests of a day, by key."""
    c = t.key_days.c
    query = select(c.key, c.requests).where(c.day == day)
    with shelf.read() as connection:
        return {row.key: row.requests for row in connection.execute(query)}
