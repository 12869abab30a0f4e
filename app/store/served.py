"""The run of an SAE that is served, read feature by feature as it is stored: for audits, which must
see one run from their beginning to their end whatever is switched meanwhile."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import or_, select

from app.errors import Conflict, Gone
from app.store import codec, find
from app.store.corpus import Corpus
from app.store.engine import Shelf
from app.store.tables import ROW_MASK, corpora, features, packed_id

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class ServedRun:
    """What was served of an SAE when it was asked."""

    id: str
    number: int
    sae_fingerprint: str
    """The SAE's when it was computed."""
    settings: dict[str, Any]
    """All else that decided it; `model` is the model's fingerprint then."""
    corpus_id: str
    n_sequences: int
    """Of the corpus."""
    tokens: Corpus


def run(shelf: Shelf, model_id: str, sae_id: str) -> ServedRun:
    """The served run. NotFound when there is no such SAE or no run of it is complete; Conflict when
    it was imported, so that there is no corpus to compute anything on."""
    with shelf.snapshot() as connection:
        stored = find.run(connection, find.evidence(connection, model_id, sae_id).run_id)
        columns = corpora.c.id, corpora.c.n_sequences, corpora.c.vocabulary
        query = select(*columns).where(corpora.c.number == stored.corpus)
        corpus_id, n_sequences, own_vocabulary = connection.execute(query).one()
        if own_vocabulary:
            raise Conflict(
                f"The evidence of SAE '{sae_id}' was imported: its text is not here. Precompute it "
                "under another id."
            )
        tokens = shelf.corpus(find.corpus_of(connection, stored))
    return ServedRun(
        stored.id,
        stored.number,
        stored.sae_fingerprint,
        stored.settings,
        corpus_id,
        n_sequences,
        tokens,
    )


def active_features(shelf: Shelf, run: ServedRun) -> np.ndarray:
    """int64 [active]: indices of the features that are active anywhere, ascending."""
    active = or_(features.c.max_activation > 0, features.c.density > 0)
    query = select(features.c.id).where(features.c.run == run.number, active)
    with shelf.snapshot() as connection:
        ids = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).scalars()
        return np.sort(np.fromiter((id & ROW_MASK for id in ids), np.int64))


def evidence(shelf: Shelf, run: ServedRun, index: int) -> tuple[float, codec.Evidence]:
    """A feature's largest activation, and its packed evidence.

    Raises:
        Gone: the run was superseded meanwhile, and collected.
        Conflict: what is stored cannot be read.
    """
    query = select(features.c.max_activation, features.c.evidence).where(
        features.c.id == packed_id(run.number, index)
    )
    with shelf.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise Gone("This evidence was computed anew meanwhile; ask again.")
    try:
        return row.max_activation, codec.unpack(row.evidence)
    except (ValueError, IndexError, struct.error) as error:
        raise Conflict(
            f"The evidence of feature {index} cannot be read ({error}); precompute again."
        ) from error
