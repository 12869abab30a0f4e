"""Shelves with many features, filled fast: a few random batches, put again and again."""

import dataclasses
from pathlib import Path

from sqlalchemy import text

from app.store import write
from app.store.engine import Shelf, open_shelf
from app.store.migrate import migrate
from tests.store import builders

MODEL, SAE = "tiny", "0-res"
_BATCHES = 8
_SEQUENCES = 12_000
"""About a million tokens."""


def fill(url: str, n_features: int) -> float:
    """Fill an empty database with the evidence of one SAE; bytes a feature that it grew by."""
    migrate(url)
    shelf = open_shelf(url)
    tokens = builders.corpus(_SEQUENCES)
    write.put_model(shelf, builders.model_record(MODEL), builders.vocabulary())
    write.put_sae(shelf, builders.sae_record(SAE, n_features, MODEL))
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    write.begin_run(shelf, MODEL, SAE, tokens.record.id, {}, "bench")
    before = _size(shelf, url)
    step = write.RANGE_FEATURES
    batches = [builders.batch(tokens, 0, step, seed=seed) for seed in range(_BATCHES)]
    for number, first in enumerate(range(0, n_features, step)):
        batch = batches[number % _BATCHES]
        if n_features - first < step:
            batch = builders.batch(tokens, 0, n_features - first)
        write.put_features(shelf, "bench", dataclasses.replace(batch, first=first))
    write.finish_run(shelf, "bench", {})
    grown = (_size(shelf, url) - before) / n_features
    shelf.close()
    return grown


def _size(shelf: Shelf, url: str) -> int:
    """Bytes of the database on disk."""
    with shelf.read() as connection:
        if not shelf.is_sqlite:
            query = "SELECT pg_database_size(current_database())"
            return connection.execute(text(query)).scalar_one()
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(url.removeprefix("sqlite:///")).stat().st_size
