"""Imported evidence on the shelf.

It goes the way of computed evidence: a run, ranges of features, one switch when all is there. In
place of a corpus it brings its examples: chunk i of a corpus that belongs to the run holds those of
feature i, so that a lookup reads one row; their token ids index the strings that the source used,
which come last. What the source says of a feature beyond our columns is kept beside it.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from isal import isal_zlib
from sqlalchemy import delete, func, select, update

from app.store import corpus, feature_rows, find, vocabulary, write
from app.store.engine import Shelf
from app.store.records import FeatureBatch, RunRecord, Vocabulary
from app.store.tables import (
    ROW_MASK,
    corpora,
    corpus_chunks,
    corpus_vocabularies,
    features,
    kept_columns,
    packed_id,
    runs,
)

MAX_EXAMPLES = 1_024
"""Examples of one feature: sequences i * `MAX_EXAMPLES` and on are those of feature i."""
MAX_FEATURES = 2**31 // MAX_EXAMPLES
"""Features of one SAE: numbers of sequences are int32."""


@dataclass(frozen=True)
class ImportedFeature:
    """One feature with what it brings along."""

    evidence: FeatureBatch
    """A batch of one."""
    words: str
    """What it is found by, separated by spaces."""
    tokens: list[np.ndarray]
    """int32 [tokens] per example, in order."""
    kept: bytes
    """What its source says of it beyond that, JSON."""


def begin(
    shelf: Shelf,
    model_id: str,
    sae_id: str,
    source: str,
    n_strings: int,
    settings: dict[str, Any],
    run_id: str,
) -> RunRecord:
    """Begin the run of an import with a corpus of its own, or find it begun; as `write.begin_run`. Token
    ids are below `n_strings`."""
    corpus_id = hashlib.sha256(f"import {run_id}".encode()).hexdigest()
    row = {
        "id": corpus_id,
        "model_id": model_id,
        "source": source,
        "n_sequences": 0,
        "n_tokens": 0,
        "context_size": 0,
        "prepend_bos": False,
        "token_bytes": 2 if n_strings <= 2**16 else 4,
        "chunk_sequences": MAX_EXAMPLES,
        "complete": True,
        "used_at": datetime.now(UTC),
    }
    with shelf.write() as connection:
        connection.execute(shelf.insert(corpora).values(row).on_conflict_do_nothing())
    return write.begin_run(shelf, model_id, sae_id, corpus_id, settings, run_id)


def put(shelf: Shelf, run_id: str, first: int, stop: int, some: list[ImportedFeature]) -> None:
    """Commit the features from `first` to below `stop` that there are, in one transaction, replacing
    what the run had there."""
    with shelf.read() as connection:
        run = write.building(connection, run_id)
        token_bytes = find.corpus_of(connection, run).token_bytes
    rows = [row for one in some for row in feature_rows.make(run.number, one.evidence, [one.words])]
    own = packed_id(run.number, first), packed_id(run.number, stop)
    texts = packed_id(run.corpus, first), packed_id(run.corpus, stop)
    chunks = [
        {"id": packed_id(run.corpus, one.evidence.first), "tokens": _chunk(one.tokens, token_bytes)}
        for one in some
        if one.tokens
    ]
    kept = [
        {"id": packed_id(run.number, one.evidence.first), "packed": isal_zlib.compress(one.kept, 3)}
        for one in some
    ]
    with shelf.write() as connection:
        write.building(connection, run_id, lock=True)
        write.replace_rows(connection, own, rows)
        for table, bounds, made in ((kept_columns, own, kept), (corpus_chunks, texts, chunks)):
            there = (table.c.id >= bounds[0]) & (table.c.id < bounds[1])
            connection.execute(delete(table).where(there))
            if made:
                connection.execute(table.insert(), made)
        write.note_range(shelf, connection, run.number, first, stop)


def put_vocabulary(
    shelf: Shelf, run_id: str, strings: list[str], n_sequences: int, n_tokens: int
) -> None:
    """Store the token strings of a run's examples; before `write.finish_runs`."""
    packed = vocabulary.pack(Vocabulary(strings, [string.encode() for string in strings], []))
    told = {"vocabulary": hashlib.sha256(packed).hexdigest()}
    told |= {"n_sequences": n_sequences, "n_tokens": n_tokens}
    with shelf.write() as connection:
        number = write.building(connection, run_id, lock=True).corpus
        connection.execute(
            shelf.insert(corpus_vocabularies)
            .values(corpus=number, packed=packed)
            .on_conflict_do_update(index_elements=["corpus"], set_={"packed": packed})
        )
        connection.execute(update(corpora).where(corpora.c.number == number).values(told))


def served_indices(shelf: Shelf, run_id: str, after: int, limit: int) -> list[int]:
    """Indices of at most `limit` features of a run behind `after` (-1: from the first), ascending."""
    with shelf.read() as connection:
        number = find.run(connection, run_id).number
        lowest, beyond = packed_id(number, 0) + after, packed_id(number + 1, 0)
        query = select(features.c.id).where(features.c.id > lowest, features.c.id < beyond)
        ids = connection.execute(query.order_by(features.c.id).limit(limit)).scalars()
        return [id & ROW_MASK for id in ids]


def count(shelf: Shelf, run_id: str) -> int:
    """Features that a run has."""
    query = (
        select(func.count())
        .select_from(features)
        .join(runs, runs.c.number == features.c.run)
        .where(runs.c.id == run_id)
    )
    with shelf.read() as connection:
        return connection.execute(query).scalar_one()


def kept(shelf: Shelf, run_id: str, indices: list[int]) -> dict[int, dict[str, Any]]:
    """What sources said of features beyond our columns, by index; of computed ones nothing."""
    with shelf.read() as connection:
        number = find.run(connection, run_id).number
        ids = [packed_id(number, index) for index in indices]
        query = select(kept_columns).where(kept_columns.c.id.in_(ids))
        rows = connection.execute(query).all()
    return {row.id & ROW_MASK: orjson.loads(isal_zlib.decompress(row.packed)) for row in rows}


def _chunk(tokens: list[np.ndarray], token_bytes: int) -> bytes:
    """The row of `corpus_chunks` with those sequences."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in tokens])]).astype(np.int64)
    (row,) = corpus.chunks(
        np.concatenate(tokens).astype(corpus.token_dtype(token_bytes)), offsets, len(tokens)
    )
    return row
