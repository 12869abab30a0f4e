"""Rows about a source as a whole, as Neuronpedia's tables want them.

Its release is what publishes it with others: what its `release.jsonl` calls it, or the release of
SAELens' directory that it was loaded from, else its set.
"""

from typing import Any

from app.rows.page import CREATOR, Row
from app.rows.render import set_name
from app.store.catalog import PREFIX
from app.store.records import IMPORTED, ModelRecord, SaeRecord


def about(model: ModelRecord, sae: SaeRecord) -> dict[str, list[Row]]:
    """Rows by file. Of what was imported from Neuronpedia's layout they are its own."""
    told = _told(sae)
    if told.get("format") == "neuronpedia":
        return told["about"]
    own = _own(sae)
    return {name: [row | own.get(name, {})] for name, row in _made(model, sae).items()}


def served(model: ModelRecord, sae: SaeRecord) -> dict[str, Row]:
    """A row by file, all of them, under the names that are used here."""
    own, name = _own(sae), set_name(sae.id)
    rows = {file: row | own.get(file, {}) for file, row in _made(model, sae).items()}
    rows["model"] |= {"id": model.id}
    rows["release"] |= {"name": release_of(sae)}
    rows["sourceset"] |= {"modelId": model.id, "name": name, "releaseName": release_of(sae)}
    rows["source"] |= {"id": sae.id, "modelId": model.id, "setName": name}
    return rows


def release_of(sae: SaeRecord) -> str:
    """The name of an SAE's release."""
    told, source = _own(sae).get("release", {}).get("name"), sae.provenance.get("source")
    if isinstance(told, str) and told:
        return told
    if isinstance(source, str) and source.startswith(PREFIX):
        return source.removeprefix(PREFIX).partition("/")[0]
    return set_name(sae.id)


def _own(sae: SaeRecord) -> dict[str, Row]:
    """The first row of each file that an imported source came with."""
    files: dict[str, list[Row]] = _told(sae).get("about", {})
    return {name: rows[0] for name, rows in files.items()}


def _told(sae: SaeRecord) -> dict[str, Any]:
    """What an import noted. The provenance of an SAE with weights is anybody's."""
    return sae.provenance["imported"] if sae.architecture == IMPORTED else {}


def _made(model: ModelRecord, sae: SaeRecord) -> dict[str, Row]:
    created = sae.created_at.isoformat() if sae.created_at else None
    by = {"creatorId": CREATOR, "createdAt": created}
    who, name, release = {"creatorName": "saescope"}, set_name(sae.id), release_of(sae)
    return {
        "release": {"name": release, "description": release, "urls": [], **who, **by},
        "model": model_row(model),
        "sourceset": {
            "modelId": model.id,
            "name": name,
            "description": name,
            "urls": [],
            "releaseName": release,
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


def model_row(model: ModelRecord) -> Row:
    """What is known here of a model."""
    created = model.created_at.isoformat() if model.created_at else None
    return {
        "id": model.id,
        "displayName": model.id,
        "displayNameShort": model.id,
        "layers": model.n_layers,
        "neuronsPerLayer": model.d_mlp,
        "dimension": model.d_model,
        "owner": "",
        "updatedAt": created,
        "creatorId": CREATOR,
        "createdAt": created,
    }
