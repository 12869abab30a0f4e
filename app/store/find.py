"""Rows by their names, or NotFound with a sentence. Shared by reading and writing."""

from typing import Any

from sqlalchemy import Connection, Row, Select, select, tuple_

from app.errors import NotFound
from app.store.corpus import StoredCorpus
from app.store.tables import corpora, models, run_ranges, runs, saes


def model(connection: Connection, model_id: str, *, lock: bool = False) -> Row:
    """The model's row; `lock` keeps other writers from it until the transaction ends."""
    query = select(models).where(models.c.id == model_id)
    row = connection.execute(_locked(query, lock)).first()
    if row is None:
        raise NotFound(f"There is no model '{model_id}'; GET /v1/models lists what there is.")
    return row


def sae(connection: Connection, model_id: str, sae_id: str, *, lock: bool = False) -> Row:
    """The SAE's row with the id of its served run; `lock` keeps other writers from the row until
    the transaction ends."""
    query = sae_query().where(saes.c.model_id == model_id, saes.c.id == sae_id)
    row = connection.execute(_locked(query, lock)).first()
    if row is None:
        model(connection, model_id)
        raise NotFound(
            f"Model '{model_id}' has no SAE '{sae_id}'; GET /v1/models/{model_id}/saes lists what "
            "there is."
        )
    return row


def saes_among(connection: Connection, names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of some names (model, SAE) that SAEs have."""
    query = select(saes.c.model_id, saes.c.id).where(tuple_(saes.c.model_id, saes.c.id).in_(names))
    return [(model_id, sae_id) for model_id, sae_id in connection.execute(query)]


def sae_query() -> Select:
    """SAEs with the ids of their served runs."""
    return select(saes, runs.c.id.label("run_id")).outerjoin(runs, runs.c.number == saes.c.run)


def evidence(connection: Connection, model_id: str, sae_id: str) -> Row:
    """The SAE's row; NotFound when no run of it is complete."""
    row = sae(connection, model_id, sae_id)
    if row.run is None:
        raise no_evidence(model_id, sae_id)
    return row


def no_evidence(model_id: str, sae_id: str) -> NotFound:
    """What to raise when no run of an SAE is complete."""
    return NotFound(
        f"SAE '{sae_id}' of model '{model_id}' has no evidence yet; submit a precompute job "
        "for it (POST /v1/jobs) and wait until it is done."
    )


def corpus(connection: Connection, corpus_id: str) -> Row:
    """The corpus' row."""
    row = connection.execute(select(corpora).where(corpora.c.id == corpus_id)).first()
    if row is None:
        raise NotFound(f"There is no corpus '{corpus_id}' on the shelf; put it there first.")
    return row


def corpus_of(connection: Connection, run: Row) -> StoredCorpus:
    """The corpus of a run."""
    columns = [corpora.c[name] for name in StoredCorpus._fields]
    row = connection.execute(select(*columns).where(corpora.c.number == run.corpus)).one()
    return StoredCorpus(*row)


def run(connection: Connection, run_id: str, *, lock: bool = False) -> Row:
    """The run's row."""
    row = connection.execute(_locked(select(runs).where(runs.c.id == run_id), lock)).first()
    if row is None:
        raise NotFound(f"There is no run '{run_id}' on the shelf; begin it first.")
    return row


def ranges(connection: Connection, number: int) -> list[tuple[int, int]]:
    """Committed ranges (first, stop) of the run with that number."""
    query = (
        select(run_ranges.c.first, run_ranges.c.stop)
        .where(run_ranges.c.run == number)
        .order_by(run_ranges.c.first)
    )
    return [(first, stop) for first, stop in connection.execute(query)]


def provenance(connection: Connection, run: Row) -> dict[str, Any]:
    """What a run's evidence was made from."""
    fingerprint = select(models.c.fingerprint).where(models.c.id == run.model_id)
    corpus_id = select(corpora.c.id).where(corpora.c.number == run.corpus)
    return {
        "model": connection.execute(fingerprint).scalar_one(),
        "sae": run.sae_fingerprint,
        "corpus": connection.execute(corpus_id).scalar_one(),
        "settings": run.settings,
        "run_id": run.id,
    }


def _locked(query: Select, lock: bool) -> Select:
    # SQLite ignores it: there, a write transaction holds the whole file.
    return query.with_for_update(of=query.columns_clause_froms[0]) if lock else query


def no_feature(connection: Connection, model_id: str, sae_id: str, index: int) -> NotFound:
    """What to raise when an SAE's served run has no such feature."""
    sae = evidence(connection, model_id, sae_id)
    if 0 <= index < sae.d_sae:
        return NotFound(
            f"There is no evidence of feature {index}: what was imported for SAE '{sae_id}' leaves "
            "it out."
        )
    return NotFound(
        f"There is no feature {index}: SAE '{sae_id}' has features 0 to {sae.d_sae - 1}."
    )
