"""Calibrations of steering: the prompts that all of them use, and where they are kept."""

import numpy as np
import orjson
from sqlalchemy import Row, select, update

from app.errors import Gone
from app.store import find, vocabulary
from app.store.corpus import StoredCorpus
from app.store.engine import Shelf
from app.store.tables import corpora, features, packed_id

PROMPTS = 8
PROMPT_TOKENS = 16


def prompts(shelf: Shelf, model_id: str, sae_id: str) -> tuple[str, list[str]]:
    """The run that is served, and beginnings of texts of its corpus, the same at every call.

    They are `PROMPTS` sequences at equal distances, as far as these have text, each cut after
    `PROMPT_TOKENS` tokens.

    Raises:
        NotFound: there is no such SAE, or it has no evidence.
    """
    with shelf.snapshot() as connection:
        sae = find.evidence(connection, model_id, sae_id)
        fingerprint = find.model(connection, model_id).fingerprint
        run = find.run(connection, sae.run_id)
        corpus = connection.execute(select(corpora).where(corpora.c.number == run.corpus)).one()
    raw = vocabulary.of_model(shelf, shelf.read, model_id, fingerprint).raw
    texts = [
        b"".join(raw[token] for token in tokens[:PROMPT_TOKENS].tolist()).decode(errors="ignore")
        for tokens in _spread(shelf, corpus)
    ]
    return sae.run_id, [text for text in texts if text.strip()]


def _spread(shelf: Shelf, corpus: Row) -> list[np.ndarray]:
    """Whole sequences at equal distances."""
    stored = StoredCorpus(corpus.number, corpus.chunk_sequences, corpus.token_bytes)
    numbers = np.arange(PROMPTS) * corpus.n_sequences // PROMPTS
    return shelf.corpus(stored).sequences(shelf.read, np.unique(numbers))


def put(
    shelf: Shelf, model_id: str, sae_id: str, index: int, run_id: str, calibration: dict
) -> None:
    """Keep a feature's calibration in place of the one before, as long as its evidence is served.

    Raises:
        Gone: the evidence is no longer that of `run_id`, so neither is the unit of strengths.
        NotFound: the SAE was deleted.
    """
    with shelf.write() as connection:
        sae = find.evidence(connection, model_id, sae_id)
        if sae.run_id != run_id:
            raise Gone(f"The evidence of '{sae_id}' was computed anew meanwhile; calibrate again.")
        connection.execute(
            update(features)
            .where(features.c.id == packed_id(sae.run, index))
            .values(calibration=orjson.dumps(calibration).decode())
        )
