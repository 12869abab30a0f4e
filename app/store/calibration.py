"""Calibrations of steering: the prompts that all of them use, and where they are kept."""

import numpy as np
import orjson
from sqlalchemy import update

from app.errors import Gone
from app.store import find, read, served
from app.store.engine import Shelf
from app.store.tables import features, packed_id

PROMPTS = 8
PROMPT_TOKENS = 16


def prompts(shelf: Shelf, model_id: str, sae_id: str) -> tuple[str, list[str]]:
    """The run that is served, and beginnings of texts of its corpus, the same at every call.

    They are `PROMPTS` sequences at equal distances, as far as these have text, each cut after
    `PROMPT_TOKENS` tokens.

    Raises:
        NotFound: there is no such SAE, or it has no evidence.
    """
    run = served.run(shelf, model_id, sae_id)
    raw = read.vocabulary(shelf, model_id).raw
    numbers = np.unique(np.arange(PROMPTS) * run.n_sequences // PROMPTS)
    texts = [
        b"".join(raw[token] for token in tokens[:PROMPT_TOKENS].tolist()).decode(errors="ignore")
        for tokens in run.tokens.sequences(shelf.read, numbers)
    ]
    return run.id, [text for text in texts if text.strip()]


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
