"""All that is read from the shelf but progress and whole features (`app.store.lookup`).

A page of features is a range of one covering index, whatever the sort and the bounds; `desc` is
the exact reverse of `asc`, equal values by index.
"""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    Select,
    literal,
    select,
    tuple_,
)

from app.store import find, pages, search
from app.store import tables as t
from app.store import vocabulary as vocabularies
from app.store.engine import Shelf
from app.store.pages import Page
from app.store.records import (
    FeatureSummary,
    ModelRecord,
    SaeRecord,
    Vocabulary,
)

Sort = Literal["index", "density", "max_activation"]
Order = Literal["asc", "desc"]

_POSITIONS = {"index": (int,), "density": (float, int), "max_activation": (float, int)}
"""What a cursor holds, by sort."""


@dataclass(frozen=True)
class Ranges:
    """Bounds on a feature list, both ends included; None leaves an end open."""

    density_min: float | None = None
    density_max: float | None = None
    max_activation_min: float | None = None
    max_activation_max: float | None = None


def models(shelf: Shelf, limit: int = 100, cursor: str | None = None) -> Page[ModelRecord]:
    """Registered models by id."""
    rows, more = _by_id(shelf, select(t.models), t.models.c.id, ["models"], limit, cursor)
    return Page([ModelRecord(**row._mapping) for row in rows], more)


def model(shelf: Shelf, model_id: str) -> ModelRecord:
    """One model."""
    with shelf.read() as connection:
        return ModelRecord(**find.model(connection, model_id)._mapping)


def vocabulary(shelf: Shelf, model_id: str) -> Vocabulary:
    """A model's token strings, kept in memory."""
    with shelf.read() as connection:
        fingerprint = find.model(connection, model_id).fingerprint
    return vocabularies.of_model(shelf, shelf.read, model_id, fingerprint)


def saes(
    shelf: Shelf, model_id: str, limit: int = 100, cursor: str | None = None
) -> Page[SaeRecord]:
    """A model's SAEs by id."""
    query = find.sae_query().where(t.saes.c.model_id == model_id)
    rows, more = _by_id(shelf, query, t.saes.c.id, ["saes", model_id], limit, cursor)
    if not rows:
        model(shelf, model_id)
    return Page([sae_record(row) for row in rows], more)


def sae(shelf: Shelf, model_id: str, sae_id: str) -> SaeRecord:
    """One SAE."""
    with shelf.read() as connection:
        return sae_record(find.sae(connection, model_id, sae_id))


def sae_record(row: Row) -> SaeRecord:
    """The record of a row of `find.sae_query`."""
    columns = dict(row._mapping)
    status = "ready" if columns.pop("run") else "registered"
    return SaeRecord(**columns, status=status)


def _by_id(
    shelf: Shelf, query: Select, id: Column, key: list[str], limit: int, cursor: str | None
) -> tuple[Sequence[Row], str | None]:
    """A page of rows in the order of their ids, and the cursor of the next."""
    pages.check_limit(limit)
    if cursor is not None:
        (last,) = pages.decode(cursor, key, (str,))
        query = query.where(id > last)
    with shelf.read() as connection:
        rows = connection.execute(query.order_by(id).limit(limit + 1)).all()
    more = pages.encode(key, [rows[limit - 1].id]) if len(rows) > limit else None
    return rows[:limit], more


def features(
    shelf: Shelf,
    model_id: str,
    sae_id: str,
    *,
    sort: Sort = "index",
    order: Order = "asc",
    ranges: Ranges = Ranges(),
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[FeatureSummary]:
    """A page of an SAE's features. `q` finds words that begin so, all of them in one feature."""
    pages.check_limit(limit)
    key = [model_id, sae_id, sort, order, *astuple(ranges), q]
    with shelf.snapshot() as connection:
        sae = find.evidence(connection, model_id, sae_id)
        place = None
        if cursor is not None:
            place = pages.decode(cursor, key, _POSITIONS[sort], sae.run_id)
        query = _listed(sort, order, sae.run, place).where(
            t.features.c.run == sae.run, *_bounds(shelf, ranges, sort)
        )
        if q is not None:
            query = query.where(search.matches(shelf, connection, sae.run, q))
        rows = connection.execute(query.limit(limit + 1)).all()
    items = [FeatureSummary(row.id & t.ROW_MASK, *row[1:]) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(items, None)
    last = rows[limit - 1]
    index = last.id & t.ROW_MASK
    place = [index] if sort == "index" else [getattr(last, sort), index]
    return Page(items, pages.encode(key, place, sae.run_id))


def _listed(sort: Sort, order: Order, run: int, place: list[Any] | None) -> Select:
    """Feature rows in an order, after `place`: an index, or a value and an index."""
    c = t.features.c
    by = [c.id] if sort == "index" else [c[sort], c.id]
    query = select(c.id, c.label, c.density, c.max_activation)
    query = query.order_by(*(column.asc() if order == "asc" else column.desc() for column in by))
    if place is None:
        return query
    last = [*place[:-1], t.packed_id(run, place[-1] & t.ROW_MASK)]
    here, there = tuple_(*by), tuple_(*map(literal, last))
    return query.where(here > there if order == "asc" else here < there)


def _bounds(shelf: Shelf, ranges: Ranges, sort: Sort) -> list[ColumnElement[bool]]:
    found = []
    for name, bound in asdict(ranges).items():
        column_name, _, end = name.rpartition("_")
        column = t.features.c[column_name]
        if shelf.is_sqlite and column_name != sort:
            # Keeps SQLite, which has no statistics, from an index that is not in the list's order.
            column = column + 0
        if bound is not None:
            found.append(column >= bound if end == "min" else column <= bound)
    return found


def alive(shelf: Shelf, model_id: str, sae_id: str, offset: int, limit: int) -> list[int]:
    """Indices of features that fire, ascending: at most `limit` behind the first `offset`."""
    c = t.features.c
    with shelf.snapshot() as connection:
        run = find.evidence(connection, model_id, sae_id).run
        query = select(c.id).where(c.run == run, c.max_activation > 0).order_by(c.id)
        ids = connection.execute(query.limit(limit).offset(offset)).scalars()
        return [id & t.ROW_MASK for id in ids]


def max_activations(
    shelf: Shelf, model_id: str, sae_id: str, indices: Sequence[int]
) -> dict[int, float]:
    """The stored maximum of each feature, for steering. NotFound when one does not exist."""
    with shelf.snapshot() as connection:
        sae = find.evidence(connection, model_id, sae_id)
        ids = [t.packed_id(sae.run, index) for index in indices if 0 <= index < sae.d_sae]
        query = select(t.features.c.id, t.features.c.max_activation).where(t.features.c.id.in_(ids))
        found = {id & t.ROW_MASK: value for id, value in connection.execute(query)}
        for index in indices:
            if index not in found:
                raise find.no_feature(connection, model_id, sae_id, index)
    return found


def begins_with_bos(shelf: Shelf, model_id: str, sae_id: str) -> bool:
    """Whether the sequences of an SAE's evidence begin with BOS, which is as it was trained."""
    with shelf.snapshot() as connection:
        number = find.evidence(connection, model_id, sae_id).run
        joined = t.corpora.join(t.runs, t.runs.c.corpus == t.corpora.c.number)
        query = select(t.corpora.c.prepend_bos).select_from(joined).where(t.runs.c.number == number)
        return connection.execute(query).scalar_one()


def summaries(
    shelf: Shelf, model_id: str, sae_id: str, indices: Sequence[int]
) -> dict[int, FeatureSummary]:
    """Some features as in a list, by index; those that exist."""
    c = t.features.c
    with shelf.snapshot() as connection:
        run = find.evidence(connection, model_id, sae_id).run
        ids = [t.packed_id(run, index) for index in indices]
        query = select(c.id, c.label, c.density, c.max_activation).where(c.id.in_(ids))
        rows = connection.execute(query).all()
    return {row.id & t.ROW_MASK: FeatureSummary(row.id & t.ROW_MASK, *row[1:]) for row in rows}
