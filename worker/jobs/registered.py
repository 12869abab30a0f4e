"""What jobs need of the shelf: models and SAEs that are registered, opened or looked up."""

from app.contract.ids import is_neuron_source
from app.errors import Conflict, NotFound
from app.store import read
from app.store.engine import Shelf
from app.store.records import ModelRecord, SaeRecord


def find_model(shelf: Shelf, model_id: str) -> ModelRecord | None:
    """The model of this id, None when there is none."""
    try:
        return read.model(shelf, model_id)
    except NotFound:
        return None


def find_sae(shelf: Shelf, model_id: str, sae_id: str) -> SaeRecord | None:
    """The SAE of this id, None when there is none."""
    try:
        return read.sae(shelf, model_id, sae_id)
    except NotFound:
        return None


def refuse_reserved(sae_id: str) -> None:
    """Raises Conflict for an id that stands for a layer's neurons."""
    if is_neuron_source(sae_id):
        raise Conflict(
            f"The id {sae_id} is reserved for the neurons of a layer; choose another id.",
            sae=sae_id,
        )


def refuse_other(what: str, stored: ModelRecord | SaeRecord | None, fingerprint: str) -> None:
    """Raises Conflict when an id is in use for something else than `fingerprint`."""
    if stored and stored.fingerprint != fingerprint:
        raise Conflict(
            f"The {what} id {stored.id} is in use for another {what}; choose another id, or delete "
            "that one first.",
            stored_fingerprint=stored.fingerprint,
            given_fingerprint=fingerprint,
        )
