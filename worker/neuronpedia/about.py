"""Rows about a source as a whole, as Neuronpedia's tables want them."""

from typing import Any

from app.rows.page import CREATOR
from app.rows.render import set_name
from app.store.records import ModelRecord, SaeRecord
from worker.neuronpedia.values import Row


def about(model: ModelRecord, sae: SaeRecord) -> dict[str, list[Row]]:
    """Rows by file. Of what was imported from Neuronpedia's layout they are its own."""
    told: dict[str, Any] = sae.provenance.get("imported", {})
    own: dict[str, list[Row]] = told.get("about", {})
    if told.get("format") == "neuronpedia":
        return own
    made = _made(model, sae)
    return {name: [row | own.get(name, [{}])[0]] for name, row in made.items()}


def _made(model: ModelRecord, sae: SaeRecord) -> dict[str, Row]:
    created = sae.created_at.isoformat() if sae.created_at else None
    by = {"creatorId": CREATOR, "createdAt": created}
    who, name = {"creatorName": "saescope"}, set_name(sae.id)
    return {
        "release": {"name": name, "description": name, "urls": [], **who, **by},
        "model": {
            "id": model.id,
            "displayName": model.id,
            "displayNameShort": model.id,
            "layers": model.n_layers,
            "neuronsPerLayer": model.d_mlp,
            "dimension": model.d_model,
            "owner": "",
            "updatedAt": created,
            **by,
        },
        "sourceset": {
            "modelId": model.id,
            "name": name,
            "description": name,
            "releaseName": name,
            **who,
            **by,
        },
        "source": {
            "id": sae.id,
            "modelId": model.id,
            "setName": name,
            "dataset": None,
            "num_prompts": None,
            "num_tokens_in_prompt": None,
            **by,
        },
    }
