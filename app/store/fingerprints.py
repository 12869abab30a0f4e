"""What is registered under a name now: asked for by every request that runs a model."""

from sqlalchemy import bindparam, select

from app.store.engine import Shelf
from app.store.hot import HotStatement
from app.store.tables import models, saes

_MODEL = HotStatement(select(models.c.fingerprint).where(models.c.id == bindparam("model_id")))
_SAE = HotStatement(
    select(saes.c.fingerprint).where(
        saes.c.model_id == bindparam("model_id"), saes.c.id == bindparam("sae_id")
    )
)


def of_model(shelf: Shelf, model_id: str) -> str | None:
    """The fingerprint of a model, None when there is no such model."""
    return _ask(shelf, _MODEL, model_id=model_id)


def of_sae(shelf: Shelf, model_id: str, sae_id: str) -> str | None:
    """The fingerprint of an SAE, None when there is no such SAE."""
    return _ask(shelf, _SAE, model_id=model_id, sae_id=sae_id)


def _ask(shelf: Shelf, statement: HotStatement, **names: str) -> str | None:
    first = statement.first_of_file if shelf.is_sqlite else statement.first
    row = first(shelf.reader, **names)
    return row[0] if row else None
