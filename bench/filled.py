"""Shelves with many features, filled fast: a few random batches, put again and again.

All that is written is watched: how long does a transaction keep other writers waiting?
"""

import dataclasses
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import event, text

from app.store import write
from app.store.engine import Shelf, open_shelf
from app.store.garbage import collect_garbage
from app.store.migrate import migrate
from tests.store import builders

MODEL, SAE = "tiny", "0-res"
_BATCHES = 8
_SEQUENCES = 12_000
"""About a million tokens."""
_SLICE_SEQUENCES = 30_000
"""More than is stored in one transaction."""


class Longest:
    """The longest write transaction of a shelf: from when its lock is taken until it is free."""

    def __init__(self, shelf: Shelf) -> None:
        self.seconds = self._began = 0.0
        event.listen(shelf.writer, "begin", self._begin)
        event.listen(shelf.writer, "checkin", self._end)

    def _begin(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.seconds = max(self.seconds, time.perf_counter() - self._began)


class Filled(NamedTuple):
    """What filling a shelf told."""

    bytes_each: float
    """Bytes a feature that the database grew by."""
    longest_s: float
    """Seconds of the longest write transaction."""


def fill(url: str, n_features: int) -> Filled:
    """Fill an empty database with the evidence of one SAE."""
    migrate(url)
    shelf = open_shelf(url)
    longest = Longest(shelf)
    tokens = builders.corpus(_SEQUENCES)
    write.put_model(shelf, builders.model_record(MODEL), builders.vocabulary())
    write.put_sae(shelf, builders.sae_record(SAE, n_features, MODEL))
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    write.begin_run(shelf, MODEL, SAE, tokens.record.id, {}, "bench")
    before = database_bytes(shelf, url)
    step = write.RANGE_FEATURES
    batches = [builders.batch(tokens, 0, step, seed=seed) for seed in range(_BATCHES)]
    for number, first in enumerate(range(0, n_features, step)):
        batch = batches[number % _BATCHES]
        if n_features - first < step:
            batch = builders.batch(tokens, 0, n_features - first)
        write.put_features(shelf, "bench", dataclasses.replace(batch, first=first))
    write.finish_runs(shelf, {"bench": {}})
    grown = (database_bytes(shelf, url) - before) / n_features
    shelf.close()
    return Filled(grown, longest.seconds)


def empty(url: str, data_dir: Path) -> float:
    """Put a large corpus on a shelf, delete everything, collect it; seconds of the longest write
    transaction."""
    shelf = open_shelf(url)
    longest = Longest(shelf)
    tokens = builders.corpus(_SLICE_SEQUENCES, id="d" * 64)
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    write.delete_model(shelf, MODEL)
    collect_garbage(shelf, data_dir, timedelta(0))
    shelf.close()
    return longest.seconds


def database_bytes(shelf: Shelf, url: str) -> int:
    """Bytes of the database on disk."""
    with shelf.read() as connection:
        if not shelf.is_sqlite:
            query = "SELECT pg_database_size(current_database())"
            return connection.execute(text(query)).scalar_one()
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(url.removeprefix("sqlite:///")).stat().st_size
