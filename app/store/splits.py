"""Splits of a layer's neurons into features of an SAE, as a job writes them.

A split belongs to a run of the neurons and to a run of the SAE. Nobody sees it before it is complete
and both runs are served, so it can be written before its runs are finished, neuron by neuron, and a job
that was killed goes on from the neurons that are there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, delete, func, select, update

from app.errors import Conflict
from app.store import codec, find
from app.store.engine import Shelf
from app.store.records import IMPORTED
from app.store.split_records import Explained, Group, NeuronSplit, Part
from app.store.tables import (
    ROW_MASK,
    corpora,
    features,
    neuron_splits,
    packed_id,
    runs,
    saes,
    splits,
)

FORMAT = 1
_ROWS_AT_ONCE = 1_000


def can_split(architecture: str) -> bool:
    """Whether dictionaries of an architecture write where they read, are not the neurons, and are
    here."""
    return architecture not in ("neurons", IMPORTED) and "transcoder" not in architecture


class Source(NamedTuple):
    """An SAE, or a layer's neurons, and the run that has its evidence."""

    id: str
    architecture: str
    path: str
    """Folder of an SAE."""
    run_id: str
    corpus: str
    """Of that run."""
    statistics: dict[str, float]
    """Of that run."""


def served_at(shelf: Shelf, model_id: str, hook_name: str) -> list[Source]:
    """What reads at a hook point and is served with evidence, by id."""
    query = (
        select(
            saes.c.id, saes.c.architecture, saes.c.path, runs.c.id, corpora.c.id, runs.c.statistics
        )
        .join_from(saes, runs, runs.c.number == saes.c.run)
        .join(corpora, corpora.c.number == runs.c.corpus)
        .where(saes.c.model_id == model_id, saes.c.hook_name == hook_name)
        .order_by(saes.c.id)
    )
    with shelf.read() as connection:
        rows = connection.execute(query).all()
    return [Source(*row) for row in rows]


def stored_evidence(
    shelf: Shelf, run_id: str, first: int, stop: int
) -> Iterator[tuple[int, codec.Evidence]]:
    """The evidence of features `first` to `stop` of a run, by index, whether it is served or not."""
    with shelf.read() as connection:
        number = find.run(connection, run_id).number
    for low in range(first, stop, _ROWS_AT_ONCE):
        high = min(low + _ROWS_AT_ONCE, stop)
        query = (
            select(features.c.id, features.c.evidence)
            .where(features.c.id >= packed_id(number, low), features.c.id < packed_id(number, high))
            .order_by(features.c.id)
        )
        with shelf.read() as connection:
            rows = connection.execute(query).all()
        yield from ((row.id & ROW_MASK, codec.unpack(row.evidence)) for row in rows)


def begin_split(shelf: Shelf, neurons_run: str, sae_run: str) -> int:
    """The number of the split of these runs (ids), begun now or before. Conflict when one of them was
    superseded."""
    with shelf.write() as connection:
        numbers = [_alive(connection, run_id).number for run_id in (neurons_run, sae_run)]
        row = dict(zip(("neurons_run", "sae_run"), numbers, strict=True))
        connection.execute(
            shelf.insert(splits).values(**row, complete=False).on_conflict_do_nothing()
        )
        return connection.execute(select(splits.c.number).filter_by(**row)).scalar_one()


def _alive(connection: Connection, run_id: str) -> Row:
    run = find.run(connection, run_id, lock=True)
    if run.state == "superseded":
        raise Conflict(
            f"The evidence of '{run.sae_id}' was computed anew or deleted meanwhile; submit the job "
            "again."
        )
    return run


def is_complete(shelf: Shelf, split: int) -> bool:
    """Whether all of a split's neurons are there."""
    with shelf.read() as connection:
        query = select(splits.c.complete).where(splits.c.number == split)
        return bool(connection.execute(query).scalar())


def n_stored(shelf: Shelf, split: int, first: int, stop: int) -> int:
    """How many of the neurons `first` to `stop` are there."""
    within = _within(split, first, stop)
    with shelf.read() as connection:
        query = select(func.count()).select_from(neuron_splits).where(*within)
        return connection.execute(query).scalar_one()


def put_neurons(shelf: Shelf, split: int, of: Sequence[NeuronSplit]) -> None:
    """Commit neurons that follow each other in one transaction, replacing what was there. Conflict
    when the split was collected."""
    rows = [_row(split, one) for one in of]
    with shelf.write() as connection:
        _begun(connection, split)
        within = _within(split, of[0].neuron, of[-1].neuron + 1)
        connection.execute(delete(neuron_splits).where(*within))
        connection.execute(neuron_splits.insert(), rows)


def finish_split(shelf: Shelf, split: int) -> None:
    """Let readers see a split, with the median of its neurons' unexplained variances."""
    column = neuron_splits.c.unexplained_variance
    known = select(column).where(neuron_splits.c.split == split, column.is_not(None))
    with shelf.write() as connection:
        _begun(connection, split)
        values = connection.execute(known).scalars().all()
        median = float(np.median(values)) if values else None
        connection.execute(
            update(splits)
            .where(splits.c.number == split)
            .values(complete=True, unexplained_variance=median)
        )


def _begun(connection: Connection, split: int) -> None:
    query = select(splits.c.number).where(splits.c.number == split).with_for_update()
    if connection.execute(query).first() is None:
        raise Conflict("The evidence that was to be split is gone; submit the job again.")


def _within(split: int, first: int, stop: int) -> tuple[Any, Any]:
    id = neuron_splits.c.id
    return id >= packed_id(split, first), id < packed_id(split, stop)


def _row(split: int, of: NeuronSplit) -> dict[str, Any]:
    parts = asdict(of)
    columns = {name: parts.pop(name) for name in ("polysemanticity", "unexplained_variance")}
    id = packed_id(split, parts.pop("neuron"))
    return {"id": id, "split": split, **columns, "parts": {"format": FORMAT, **parts}}


def unpack(row: Row) -> NeuronSplit:
    """What a row of `neuron_splits` holds. Conflict for a format that this version does not know."""
    parts = dict(row.parts)
    if parts.pop("format") != FORMAT:
        raise Conflict("Another version has split this neuron; precompute it again.")
    parts["features"] = [Part(*part) for part in parts["features"]]
    parts["groups"] = [
        Group(part and Part(*part), [Explained(*one) for one in examples])
        for part, examples in parts["groups"]
    ]
    return NeuronSplit(
        neuron=row.id & ROW_MASK,
        polysemanticity=row.polysemanticity,
        unexplained_variance=row.unexplained_variance,
        **parts,
    )
