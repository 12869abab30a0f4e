"""Lists of features that people keep.

A list has one owner, who alone changes it; whoever knows its id may read it. Its items name features
by model, SAE and index, so that they outlive the SAE. What changes a list first locks its row:
changes that come at once follow each other.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, tuple_, update

from app.errors import Conflict, Forbidden, NotFound
from app.store import tables as t
from app.store.engine import Shelf

MOST_LISTS = 1_000
"""Lists of one owner. Lists that are made at the same moment may be a few more on Postgres."""
MOST_ITEMS = 300
"""Items of a list."""
_ID_BYTES = 15

ItemName = tuple[str, str, int]
"""Model, SAE, index."""


@dataclass(frozen=True)
class FeatureList:
    """A list without its items."""

    id: str
    owner: str
    name: str
    description: str
    test_text: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class ListItem:
    """A feature in a list."""

    list: str
    model_id: str
    sae_id: str
    feature: int
    description: str
    added_at: datetime

    @property
    def name(self) -> ItemName:
        """The feature."""
        return self.model_id, self.sae_id, self.feature


_LIST = [t.lists.c[name] for name in FeatureList.__dataclass_fields__]
_ITEM = [t.list_items.c[name] for name in ListItem.__dataclass_fields__]
_NAME = tuple_(t.list_items.c.model_id, t.list_items.c.sae_id, t.list_items.c.feature)


def new(
    shelf: Shelf,
    owner: str,
    name: str,
    description: str,
    test_text: str | None,
    items: dict[ItemName, str],
) -> FeatureList:
    """Make a list with items (a description each). Conflict when the owner has `MOST_LISTS`."""
    now = datetime.now(UTC)
    made = FeatureList(secrets.token_hex(_ID_BYTES), owner, name, description, test_text, now, now)
    with shelf.write() as connection:
        owned = select(func.count()).where(t.lists.c.owner == owner)
        if connection.execute(owned).scalar_one() >= MOST_LISTS:
            raise Conflict(f"You have {MOST_LISTS:,} lists, which is all; delete one first.")
        connection.execute(t.lists.insert(), vars(made))
        _put(shelf, connection, made.id, items)
    return made


def get(shelf: Shelf, list_id: str) -> tuple[FeatureList, list[ListItem]]:
    """A list, and its items in the order in which they were added. NotFound when it is not there."""
    with shelf.snapshot() as connection:
        found = _find(connection, list_id)
        of_list = t.list_items.c.list == list_id
        query = select(*_ITEM).where(of_list).order_by(t.list_items.c.number)
        items = connection.execute(query).all()
    return FeatureList(*found), [ListItem(*row) for row in items]


def owned(shelf: Shelf, owner: str) -> list[FeatureList]:
    """An owner's lists, newest first."""
    query = select(*_LIST).where(t.lists.c.owner == owner)
    query = query.order_by(t.lists.c.created_at.desc(), t.lists.c.id)
    with shelf.read() as connection:
        return [FeatureList(*row) for row in connection.execute(query)]


def holding(shelf: Shelf, owner: str, name: ItemName) -> list[tuple[ListItem, FeatureList]]:
    """An owner's lists that a feature is in, with its item there, in the order of adding."""
    query = (
        select(*_ITEM, *_LIST)
        .join(t.lists, t.lists.c.id == t.list_items.c.list)
        .where(_NAME.in_([name]), t.lists.c.owner == owner)
        .order_by(t.list_items.c.number)
    )
    with shelf.read() as connection:
        rows = connection.execute(query).all()
    wide = len(_ITEM)
    return [(ListItem(*row[:wide]), FeatureList(*row[wide:])) for row in rows]


def add(shelf: Shelf, owner: str, list_id: str, items: dict[ItemName, str]) -> list[ListItem]:
    """Add items (a description each), and answer with them. One that is there already stays where it
    is, and gets the new description unless that is empty. Conflict beyond `MOST_ITEMS`."""
    with shelf.write() as connection:
        _own(connection, owner, list_id)
        _put(shelf, connection, list_id, items)
        _touch(connection, list_id)
        return _items(connection, list_id, items)


def change(shelf: Shelf, owner: str, list_id: str, **columns: Any) -> FeatureList:
    """Give a list another name, description or test text."""
    with shelf.write() as connection:
        _own(connection, owner, list_id)
        _touch(connection, list_id, **columns)
        return FeatureList(*_find(connection, list_id))


def describe(shelf: Shelf, owner: str, list_id: str, name: ItemName, description: str) -> ListItem:
    """Give an item another description."""
    with shelf.write() as connection:
        _own(connection, owner, list_id)
        _one(connection, list_id, name)
        item = (t.list_items.c.list == list_id) & _NAME.in_([name])
        connection.execute(update(t.list_items).where(item).values(description=description))
        _touch(connection, list_id)
        return _one(connection, list_id, name)


def remove(shelf: Shelf, owner: str, list_id: str, name: ItemName) -> ListItem:
    """Take an item out, and answer with it."""
    with shelf.write() as connection:
        _own(connection, owner, list_id)
        gone = _one(connection, list_id, name)
        item = (t.list_items.c.list == list_id) & _NAME.in_([name])
        connection.execute(delete(t.list_items).where(item))
        _touch(connection, list_id)
    return gone


def delete_list(shelf: Shelf, owner: str, list_id: str) -> None:
    """Delete a list with its items."""
    with shelf.write() as connection:
        _own(connection, owner, list_id)
        connection.execute(delete(t.lists).where(t.lists.c.id == list_id))


def _find(connection: Connection, list_id: str, *, lock: bool = False) -> Row:
    query = select(*_LIST).where(t.lists.c.id == list_id)
    # SQLite ignores it: there, a write transaction holds the whole file.
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"There is no list '{list_id}'.")
    return row


def _own(connection: Connection, owner: str, list_id: str) -> None:
    """Lock a list. Forbidden when it is another's."""
    if _find(connection, list_id, lock=True).owner != owner:
        raise Forbidden(f"The list '{list_id}' belongs to another key.")


def _touch(connection: Connection, list_id: str, **columns: Any) -> None:
    changed = update(t.lists).where(t.lists.c.id == list_id)
    connection.execute(changed.values(updated_at=datetime.now(UTC), **columns))


def _put(shelf: Shelf, connection: Connection, list_id: str, items: dict[ItemName, str]) -> None:
    """Insert items; of a list whose row nobody else can change."""
    now = datetime.now(UTC)
    rows = [
        {
            "list": list_id,
            "model_id": model_id,
            "sae_id": sae_id,
            "feature": feature,
            "description": description,
            "added_at": now,
        }
        for (model_id, sae_id, feature), description in items.items()
    ]
    if not rows:
        return
    insert = shelf.insert(t.list_items)
    insert = insert.on_conflict_do_update(
        index_elements=["list", "model_id", "sae_id", "feature"],
        set_={"description": insert.excluded.description},
        where=insert.excluded.description != "",
    )
    connection.execute(insert, rows)
    count = select(func.count()).where(t.list_items.c.list == list_id)
    if connection.execute(count).scalar_one() > MOST_ITEMS:
        raise Conflict(f"A list has at most {MOST_ITEMS} features; nothing was added.")


def _items(connection: Connection, list_id: str, names: Iterable[ItemName]) -> list[ListItem]:
    """Items of a list in the order of their names."""
    query = select(*_ITEM).where(t.list_items.c.list == list_id, _NAME.in_(list(names)))
    found = {item.name: item for item in (ListItem(*row) for row in connection.execute(query))}
    return [found[name] for name in names if name in found]


def _one(connection: Connection, list_id: str, name: ItemName) -> ListItem:
    items = _items(connection, list_id, [name])
    if not items:
        model_id, sae_id, feature = name
        raise NotFound(
            f"Feature {feature} of '{sae_id}' ({model_id}) is not in the list '{list_id}'."
        )
    return items[0]
