"""Rows of the table `features`, made from a batch and inserted through the driver itself:
SQLAlchemy would spend as long on the parameters of each row as SQLite on the row.
"""

from itertools import repeat
from math import isnan

from sqlalchemy import Connection

from app.store import codec
from app.store.records import LABEL_KINDS, FeatureBatch
from app.store.tables import features, packed_id

SHOWN_NUL = "\N{SYMBOL FOR NULL}"
"""In place of a NUL in a label, which Postgres cannot store in text."""


def make(run: int, batch: FeatureBatch, found_by: list[str]) -> list[tuple]:
    """Rows for `insert`: one per feature, values in the order of the table's columns."""
    first = packed_id(run, batch.first)
    columns = (
        range(first, first + len(found_by)),
        repeat(run, len(found_by)),
        batch.density.tolist(),
        batch.max_activation.tolist(),
        batch.mean_activation.tolist(),
        batch.min_activation.tolist(),
        batch.count.tolist(),
        [label.replace("\0", SHOWN_NUL) for label in batch.labels],
        found_by,
        codec.pack(batch),
        [LABEL_KINDS[kind] for kind in batch.label_kind.tolist()],
        [None if isnan(score) else score for score in batch.label_score.tolist()],
        repeat(None, len(found_by)),
    )
    return list(zip(*columns, strict=True))


def insert(connection: Connection, rows: list[tuple]) -> None:
    """Insert rows in the caller's transaction."""
    names = ", ".join(features.columns.keys())
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * len(features.columns))
    connection.exec_driver_sql(f"INSERT INTO features ({names}) VALUES ({marks})", rows)
