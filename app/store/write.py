"""Models, SAEs, corpora, runs and features, as they are written to the shelf.

Evidence becomes visible in three steps: `begin_run`, `put_features` for each range of features,
`finish_runs`. Every step is one transaction and may be repeated: a job that was killed asks for
`committed_ranges` and goes on. Readers see the SAE's old run until `finish_runs` commits.

No transaction holds SQLite's write lock for as long as a second: corpora go in slices, and callers
of `put_features` give ranges of about `RANGE_FEATURES`.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Connection, Row, delete, select, update

from app.errors import Conflict
from app.store import corpus, feature_rows, find, search, vocabulary, words
from app.store.engine import Shelf
from app.store.records import (
    CorpusRecord,
    FeatureBatch,
    ModelRecord,
    RunRecord,
    SaeRecord,
    Vocabulary,
)
from app.store.tables import (
    corpora,
    corpus_chunks,
    features,
    models,
    packed_id,
    run_ranges,
    runs,
    saes,
    vocabularies,
)

RANGE_FEATURES = 1_024
"""A sensible number of features for one `put_features`: about 3 MB and 0.1 s."""

_CHUNKS_A_TRANSACTION = 4_096


def put_model(shelf: Shelf, record: ModelRecord, tokens: Vocabulary) -> None:
    """Register a model. The same again changes nothing; Conflict when the id is another's."""
    row = {**asdict(record), "created_at": record.created_at or _now()}
    packed = vocabulary.pack(tokens)
    with shelf.write() as connection:
        connection.execute(shelf.insert(models).values(row).on_conflict_do_nothing())
        stored = find.model(connection, record.id, lock=True)
        _same_fingerprint(f"Model id '{record.id}'", stored.fingerprint, record.fingerprint)
        connection.execute(
            shelf.insert(vocabularies)
            .values(model_id=record.id, packed=packed)
            .on_conflict_do_nothing()
        )


def put_sae(shelf: Shelf, record: SaeRecord) -> None:
    """Register an SAE of a registered model; as `put_model`. Its status follows from its runs."""
    row = {**asdict(record), "created_at": record.created_at or _now()}
    del row["status"], row["run_id"]
    with shelf.write() as connection:
        find.model(connection, record.model_id, lock=True)
        connection.execute(shelf.insert(saes).values(row).on_conflict_do_nothing())
        stored = find.sae(connection, record.model_id, record.id)
        _same_fingerprint(
            f"SAE id '{record.id}' of model '{record.model_id}'",
            stored.fingerprint,
            record.fingerprint,
        )


def _same_fingerprint(what: str, stored: str, given: str) -> None:
    if stored != given:
        raise Conflict(
            f"{what} is in use with other contents; choose another id, or delete that one first.",
            stored_fingerprint=stored,
            given_fingerprint=given,
        )


def set_evaluation(
    shelf: Shelf,
    model_id: str,
    sae_id: str,
    fingerprint: str,
    evaluation: dict[str, Any],
) -> None:
    """Put an evaluation in the place of the one that the SAE with this fingerprint had: numbers that
    were measured on other text do not mix.

    Raises `Conflict` when another has its id by now.
    """
    with shelf.write() as connection:
        stored = find.sae(connection, model_id, sae_id, lock=True)
        _same_fingerprint(
            f"SAE id '{sae_id}' of model '{model_id}'", stored.fingerprint, fingerprint
        )
        connection.execute(
            update(saes)
            .where(saes.c.model_id == model_id, saes.c.id == sae_id)
            .values(evaluation=evaluation)
        )


def put_corpus(shelf: Shelf, record: CorpusRecord, flat: np.ndarray, offsets: np.ndarray) -> None:
    """Store tokens, `flat` uint16 or int32 [tokens], cut at `offsets` int64 [sequences + 1].

    The same id is the same tokens, so a corpus that is there is only marked as in use; one that
    was left half-written is completed.
    """
    per_chunk = corpus.chunk_sequences(record.n_sequences, record.n_tokens)
    row = {
        **asdict(record),
        "token_bytes": flat.dtype.itemsize,
        "chunk_sequences": per_chunk,
        "complete": False,
        "used_at": _now(),
    }
    with shelf.write() as connection:
        connection.execute(
            shelf.insert(corpora)
            .values(row)
            .on_conflict_do_update(index_elements=["id"], set_={"used_at": row["used_at"]})
        )
        stored = find.corpus(connection, record.id)
    if stored.complete:
        return
    rows = enumerate(corpus.chunks(flat, offsets, per_chunk))
    while some := list(islice(rows, _CHUNKS_A_TRANSACTION)):
        values = [{"id": packed_id(stored.number, n), "tokens": tokens} for n, tokens in some]
        with shelf.write() as connection:
            connection.execute(shelf.insert(corpus_chunks).on_conflict_do_nothing(), values)
    with shelf.write() as connection:
        connection.execute(
            update(corpora).where(corpora.c.number == stored.number).values(complete=True)
        )


def begin_run(
    shelf: Shelf,
    model_id: str,
    sae_id: str,
    corpus_id: str,
    settings: dict[str, Any],
    run_id: str,
) -> RunRecord:
    """Begin a run, or find it begun. Conflict when `run_id` is another SAE's or corpus' run, or
    superseded."""
    with shelf.write() as connection:
        sae = find.sae(connection, model_id, sae_id)
        stored_corpus = find.corpus(connection, corpus_id)
        row = {
            "id": run_id,
            "model_id": model_id,
            "sae_id": sae_id,
            "sae_fingerprint": sae.fingerprint,
            "corpus": stored_corpus.number,
            "state": "building",
            "settings": orjson.loads(orjson.dumps(settings)),  # as it will come back
            "statistics": {},
            "created_at": _now(),
            "updated_at": _now(),
        }
        # Even where a row is there already, an insert would use up a number.
        if connection.execute(select(runs.c.number).filter_by(id=run_id)).first() is None:
            connection.execute(shelf.insert(runs).values(row).on_conflict_do_nothing())
        run = find.run(connection, run_id)
    identity = ("model_id", "sae_id", "sae_fingerprint", "corpus", "settings")
    if any(getattr(run, name) != row[name] for name in identity):
        raise Conflict(
            f"Run '{run_id}' was begun for another SAE, corpus or settings; use another run id."
        )
    if run.state == "superseded":
        raise Conflict(
            f"Run '{run_id}' cannot go on: a later one took its place, or its SAE was deleted. Begin "
            "another run."
        )
    return RunRecord(run.id, model_id, sae_id, corpus_id, run.state, run.settings, run.created_at)


def put_features(shelf: Shelf, run_id: str, batch: FeatureBatch) -> None:
    """Commit a range of features in one transaction, replacing what the run had there."""
    stop = batch.first + len(batch.labels)
    with shelf.read() as connection:
        run = building(connection, run_id)
        found_by = words.of_features(shelf, connection, run, batch)
    rows = feature_rows.make(run.number, batch, found_by)
    bounds = packed_id(run.number, batch.first), packed_id(run.number, stop)
    with shelf.write() as connection:
        building(connection, run_id, lock=True)
        replace_rows(connection, bounds, rows)
        note_range(shelf, connection, run.number, batch.first, stop)


def replace_rows(connection: Connection, bounds: tuple[int, int], rows: list[tuple]) -> None:
    """Put rows of `feature_rows.make` in the place of those with ids from the first bound to below
    the second, with what they are found by."""
    search.forget(connection, *bounds)
    connection.execute(
        delete(features).where(features.c.id >= bounds[0], features.c.id < bounds[1])
    )
    if rows:
        feature_rows.insert(connection, rows)
    search.add(connection, *bounds)


def note_range(shelf: Shelf, connection: Connection, run: int, first: int, stop: int) -> None:
    """Remember that a run has its features from `first` to below `stop`."""
    connection.execute(
        shelf.insert(run_ranges)
        .values(run=run, first=first, stop=stop)
        .on_conflict_do_update(index_elements=["run", "first"], set_={"stop": stop})
    )
    connection.execute(update(runs).where(runs.c.number == run).values(updated_at=_now()))


def building(connection: Connection, run_id: str, *, lock: bool = False) -> Row:
    """The run's row. Conflict when it takes no more features."""
    run = find.run(connection, run_id, lock=lock)
    if run.state != "building":
        raise Conflict(
            f"Run '{run_id}' takes no more features: it is {run.state}. Begin another run."
        )
    return run


def committed_ranges(shelf: Shelf, run_id: str) -> list[tuple[int, int]]:
    """Ranges (first, stop) of features that a run has, by `first`; they may overlap."""
    with shelf.read() as connection:
        return find.ranges(connection, find.run(connection, run_id).number)


def finish_runs(shelf: Shelf, statistics: dict[str, dict[str, Any]]) -> None:
    """Serve the evidence of some runs (by id) from now on, and supersede those before them, in one
    transaction. Conflict when features are missing, or an SAE was deleted or replaced meanwhile."""
    with shelf.write() as connection:
        for run_id in sorted(statistics):  # by SAE: two jobs do not wait for each other
            _finish(connection, run_id, statistics[run_id])


def _finish(connection: Connection, run_id: str, statistics: dict[str, Any]) -> None:
    run = find.run(connection, run_id, lock=True)
    if run.state == "complete":
        return
    building(connection, run_id)
    sae = find.sae(connection, run.model_id, run.sae_id, lock=True)
    _same_fingerprint(f"SAE id '{sae.id}'", sae.fingerprint, run.sae_fingerprint)
    _covered(run_id, find.ranges(connection, run.number), sae.d_sae)
    _set_state(connection, [sae.run] if sae.run else [], "superseded")
    _set_state(connection, [run.number], "complete", statistics=statistics)
    provenance = sae.provenance | find.provenance(connection, run) | {"statistics": statistics}
    served = update(saes).where(saes.c.model_id == sae.model_id, saes.c.id == sae.id)
    connection.execute(served.values(run=run.number, provenance=provenance))


def _covered(run_id: str, ranges: list[tuple[int, int]], d_sae: int) -> None:
    reached = 0
    for first, stop in ranges:
        if first > reached:
            break
        reached = max(reached, stop)
    if reached != d_sae:
        raise Conflict(
            f"Run '{run_id}' cannot be finished: of {d_sae} features, number {reached} is the "
            "first that was not committed."
            if reached < d_sae
            else f"Run '{run_id}' has features up to {reached - 1}; its SAE has only {d_sae}."
        )


def _set_state(connection: Connection, numbers: list[int], state: str, **columns: Any) -> None:
    connection.execute(
        update(runs)
        .where(runs.c.number.in_(numbers))
        .values(state=state, updated_at=_now(), **columns)
    )


def delete_model(shelf: Shelf, model_id: str) -> None:
    """Take a model and its SAEs off the shelf at once; what they leave is collected later."""
    with shelf.write() as connection:
        find.model(connection, model_id, lock=True)
        _supersede(connection, runs.c.model_id == model_id)
        connection.execute(delete(saes).where(saes.c.model_id == model_id))
        connection.execute(delete(models).where(models.c.id == model_id))


def delete_sae(shelf: Shelf, model_id: str, sae_id: str) -> None:
    """Take an SAE off the shelf at once; its evidence is collected later."""
    with shelf.write() as connection:
        find.sae(connection, model_id, sae_id)
        _supersede(connection, runs.c.model_id == model_id, runs.c.sae_id == sae_id)
        connection.execute(delete(saes).where(saes.c.model_id == model_id, saes.c.id == sae_id))


def _supersede(connection: Connection, *condition: Any) -> None:
    connection.execute(update(runs).where(*condition).values(state="superseded", updated_at=_now()))


def _now() -> datetime:
    return datetime.now(UTC)
