"""How often and how strongly the features of a served run fire, whole SAEs at a time, for ranking."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from app.errors import Gone
from app.store import find
from app.store.engine import Shelf
from app.store.tables import ROW_MASK, corpora, features, packed_id

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class Activity:
    """One run's, by feature index."""

    run_id: str
    run: int
    """Its number."""
    sae_fingerprint: str
    corpus_tokens: int
    density: np.ndarray
    """float64 [features]"""
    max_activation: np.ndarray
    """float64 [features]; 0 where the feature never fired."""

    @property
    def n_bytes(self) -> int:
        return self.density.nbytes + self.max_activation.nbytes


def served(shelf: Shelf, model_id: str, sae_id: str) -> Activity:
    """What is served of an SAE, at one moment. NotFound when no run of it is complete."""
    with shelf.snapshot() as connection:
        sae = find.evidence(connection, model_id, sae_id)
        run = find.run(connection, sae.run_id)
        tokens = select(corpora.c.n_tokens).where(corpora.c.number == run.corpus)
        corpus_tokens = connection.execute(tokens).scalar_one()
        query = (
            select(features.c.density, features.c.max_activation)
            .where(features.c.run == run.number)
            .order_by(features.c.id)
        )
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        columns = np.fromiter((value for row in rows for value in row), np.float64).reshape(-1, 2)
    density, max_activation = columns.T.copy()
    return Activity(run.id, run.number, run.sae_fingerprint, corpus_tokens, density, max_activation)


def labels(shelf: Shelf, activity: Activity, indices: Sequence[int]) -> dict[int, str]:
    """Labels of some features of the same run. Gone when it was superseded and collected."""
    ids = [packed_id(activity.run, index) for index in indices]
    query = select(features.c.id, features.c.label).where(features.c.id.in_(ids))
    with shelf.read() as connection:
        found = {id & ROW_MASK: label for id, label in connection.execute(query)}
    if len(found) < len(set(indices)):
        raise Gone("This evidence was computed anew meanwhile; ask again.")
    return found
