"""Directions in a model's residual stream that people keep, under names like those of features.

A vector has one owner, who alone deletes it; whoever knows its name may read it. It outlives its
model's registration.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Row, delete, func, select, tuple_

from app.errors import Conflict, Forbidden, NotFound
from app.store import tables as t
from app.store.engine import Shelf

MOST_VECTORS = 100
"""Vectors of one owner, all of which one answer may hold. A few more may come in at the same moment
on Postgres."""
MOST_VALUES = 24_576
"""Length of a vector."""
_SOURCE = re.compile(r"(0|[1-9][0-9]*)-neuronpedia-resid-(pre|post)")
_NUMBERS = range(10_000_000, 1_000_000_000)
"""Of 8 or 9 digits: a number says no more than that."""

VectorName = tuple[str, str, int]
"""Model, source, number."""


@dataclass(frozen=True)
class Vector:
    """A vector."""

    model_id: str
    source: str
    """`{layer}-neuronpedia-resid-pre`, or post."""
    number: int
    owner: str
    label: str
    hook_name: str
    strength: float
    """The strength by which its owner steers with it."""
    values: np.ndarray
    """float64 [d_model], as they were given."""
    created_at: datetime


_COLUMNS = [
    t.vectors.c["packed" if name == "values" else name] for name in Vector.__dataclass_fields__
]
_NAME = tuple_(t.vectors.c.model_id, t.vectors.c.source, t.vectors.c.number)


def source_of(layer: int, at: str) -> str:
    """The source of vectors `at` ("pre" or "post") a layer."""
    return f"{layer}-neuronpedia-resid-{at}"


def is_source(name: str) -> bool:
    """Whether a source's name is one of vectors."""
    return _SOURCE.fullmatch(name) is not None


def new(
    shelf: Shelf,
    owner: str,
    model_id: str,
    source: str,
    label: str,
    hook_name: str,
    strength: float,
    values: np.ndarray,
) -> Vector:
    """Keep a vector under a random number. Conflict when the owner has `MOST_VECTORS`."""
    row = {
        "model_id": model_id,
        "source": source,
        "owner": owner,
        "label": label,
        "hook_name": hook_name,
        "strength": strength,
        "packed": values.astype("<f8").tobytes(),
        "created_at": datetime.now(UTC),
    }
    with shelf.write() as connection:
        owned = select(func.count()).where(t.vectors.c.owner == owner)
        if connection.execute(owned).scalar_one() >= MOST_VECTORS:
            raise Conflict(f"You have {MOST_VECTORS} vectors, which is all; delete one first.")
        taken = True
        while taken:
            row["number"] = _NUMBERS[secrets.randbelow(len(_NUMBERS))]
            insert = shelf.insert(t.vectors).values(row).on_conflict_do_nothing()
            taken = connection.execute(insert).rowcount == 0
    return found(shelf, [(model_id, source, row["number"])])[0]


def find(shelf: Shelf, model_id: str, source: str, number: int) -> Vector:
    """One vector. NotFound when it is not there."""
    some = found(shelf, [(model_id, source, number)])
    if not some:
        raise NotFound(f"There is no vector {number} of '{source}' ({model_id}).")
    return some[0]


def found(shelf: Shelf, names: Iterable[VectorName]) -> list[Vector]:
    """Those of some vectors that there are, in no order."""
    query = select(*_COLUMNS).where(_NAME.in_(list(names)))
    with shelf.read() as connection:
        return [_vector(row) for row in connection.execute(query)]


def owned(shelf: Shelf, owner: str) -> list[Vector]:
    """An owner's vectors, newest first."""
    query = select(*_COLUMNS).where(t.vectors.c.owner == owner)
    query = query.order_by(t.vectors.c.created_at.desc(), t.vectors.c.number)
    with shelf.read() as connection:
        return [_vector(row) for row in connection.execute(query)]


def remove(shelf: Shelf, owner: str, name: VectorName) -> None:
    """Delete a vector. NotFound when it is not there, Forbidden when it is another's."""
    vector = find(shelf, *name)
    if vector.owner != owner:
        raise Forbidden(f"The vector {vector.number} belongs to another key.")
    with shelf.write() as connection:
        connection.execute(delete(t.vectors).where(_NAME.in_([name])))


def _vector(row: Row) -> Vector:
    columns = {**row._mapping}
    return Vector(values=np.frombuffer(columns.pop("packed"), "<f8"), **columns)
