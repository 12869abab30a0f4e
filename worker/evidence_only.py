"""Models and SAEs of which only evidence is here: imported, without their files."""

from pathlib import Path

from app.errors import Conflict
from app.store.records import ModelRecord, SaeRecord


def folder_of(record: ModelRecord | SaeRecord) -> Path:
    """Folder of the files of a model, or of an SAE that is no neuron source.

    Raises Conflict when only evidence was imported, so that there are none.
    """
    if record.path:
        return Path(record.path)
    if isinstance(record, ModelRecord):
        raise Conflict(
            f"Model '{record.id}' is known only from imported evidence, which can be looked up; its "
            "files are not here. Load the model under another id to run it."
        )
    raise Conflict(
        f"Of SAE '{record.id}' of model '{record.model_id}' only evidence was imported, which can be "
        "looked up; its weights are not here. Load the SAE under another id to use it."
    )
