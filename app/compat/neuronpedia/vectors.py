"""Vectors: directions in the residual stream, to be steered by as features are. They belong to the key
that made them; whoever knows a vector's name may read it."""

import asyncio
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
import orjson
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field, StrictFloat

from app.api.disconnect import unless_disconnected
from app.api.problems import invalid
from app.api.state import Use
from app.compat.neuronpedia.answer import json
from app.compat.neuronpedia.digits import DECIMAL, DIGITS
from app.compat.neuronpedia.errors import ASKS, CHANGES
from app.compat.neuronpedia.keys import KEYED, Owner
from app.compat.neuronpedia.names import Asked, SourceName, Title
from app.compat.neuronpedia.owned import new_vector_row, vector_row
from app.contract.bundled import BUNDLED_AXIS, BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import Id
from app.contract.reading import DirectionRequest
from app.rows.page import Row
from app.store import read, vectors
from app.store.records import ModelRecord
from app.store.vectors import MOST_VALUES

router = APIRouter(tags=["neuronpedia"])
STRENGTH, STRONGEST = 10, 300
_NEW = {
    "modelId": BUNDLED_MODEL,
    "layerNumber": 2,
    "hookType": "hook_resid_post",
    "vector": BUNDLED_AXIS,
    "vectorDefaultSteerStrength": 5,
    "vectorLabel": "One axis",
}
_YOURS = {"modelId": BUNDLED_MODEL, "source": "2-neuronpedia-resid-post", "index": "12345678"}


class NewVector(Asked):
    """A vector to keep."""

    modelId: Id
    layerNumber: Annotated[int, Field(ge=0, le=10_000), DIGITS]
    hookType: Literal["hook_resid_pre", "hook_resid_post"]
    vector: list[StrictFloat] = Field(
        min_length=1, max_length=MOST_VALUES, description="As long as the residual stream is wide."
    )
    vectorDefaultSteerStrength: (
        Annotated[float, Field(ge=-STRONGEST, le=STRONGEST), DECIMAL] | None
    ) = STRENGTH
    vectorLabel: Title


class NpMadeVector(BaseModel):
    """A vector that was made."""

    modelId: str
    source: str = Field(description="`{layer}-neuronpedia-resid-pre`, or post.")
    index: str = Field(description="Random, 8 or 9 digits.")
    label: str
    createdAt: datetime
    defaultSteerStrength: float
    hookName: str
    values: list[float]


class NpVectorMade(BaseModel):
    """The answer to who made one."""

    message: str
    url: str = Field(description="Where it is read.")
    vector: NpMadeVector


class NpVector(BaseModel):
    """A vector."""

    modelId: str
    layer: str
    index: str
    vectorLabel: str
    createdAt: datetime | None = Field(description="Null of a feature.")
    creatorId: str | None = Field(description="Null of a feature.")
    vectorDefaultSteerStrength: float
    hookName: str
    vector: list[float]


class NpVectorAnswer(BaseModel):
    """One vector."""

    vector: NpVector


class NpVectors(BaseModel):
    """Some vectors."""

    vectors: list[NpVector]


class NpMessage(BaseModel):
    """That something was done."""

    message: str


@router.post(
    "/api/vector/new",
    summary="Keep a vector, as Neuronpedia's clients ask",
    response_model=NpVectorMade,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_new_vector(
    request: Request,
    services: Use,
    owner: Owner,
    wanted: Annotated[
        NewVector,
        Body(openapi_examples={"axis": {"summary": "An axis of the bundled model", "value": _NEW}}),
    ],
) -> Response:
    """Keep a direction of a registered model's residual stream, in front of a layer
    (`hook_resid_pre`) or behind it. It belongs to the key, which can have 100.
    """
    _check(read.model(services.shelf, wanted.modelId), wanted)
    at = wanted.hookType.removeprefix("hook_resid_")
    strength = wanted.vectorDefaultSteerStrength
    made = vectors.new(
        services.shelf,
        owner,
        wanted.modelId,
        vectors.source_of(wanted.layerNumber, at),
        wanted.vectorLabel,
        f"blocks.{wanted.layerNumber}.{wanted.hookType}",
        STRENGTH if strength is None else strength,
        np.array(wanted.vector, np.float64),
    )
    url = f"{request.base_url}api/feature/{made.model_id}/{made.source}/{made.number}"
    return json({"message": "Success", "url": url, "vector": new_vector_row(made)})


def _check(model: ModelRecord, wanted: NewVector) -> None:
    """Raises Invalid for a layer that a model does not have, or another width."""
    if not model.d_model:
        raise invalid(
            "body.modelId",
            f"is '{model.id}', whose width is not known here",
            "a model that was loaded",
        )
    if wanted.layerNumber >= model.n_layers:
        raise invalid("body.layerNumber", f"is {wanted.layerNumber}", f"0 to {model.n_layers - 1}")
    if len(wanted.vector) != model.d_model:
        raise invalid(
            "body.vector", f"has {len(wanted.vector)} values", f"the model's {model.d_model}"
        )


@router.post(
    "/api/vector/get",
    summary="Read a vector, as Neuronpedia's clients ask",
    response_model=NpVectorAnswer,
    responses=ASKS,
)
async def np_get_vector(
    request: Request,
    services: Use,
    wanted: Annotated[
        SourceName,
        Body(
            openapi_examples={
                "feature": {
                    "summary": "What a feature reads",
                    "value": {"modelId": BUNDLED_MODEL, "source": BUNDLED_SAES[0], "index": "266"},
                }
            }
        ),
    ],
) -> Response:
    """One vector. It needs no key. Of a feature it is what the feature reads, its encoder's direction,
    which the live worker knows."""
    if vectors.is_source(wanted.source):
        vector = await asyncio.to_thread(vectors.find, services.shelf, *wanted.name)
        return json({"vector": vector_row(vector)})
    await asyncio.to_thread(read.sae, services.shelf, wanted.modelId, wanted.source)
    asked = DirectionRequest(
        model=wanted.modelId, sae=wanted.source, feature=wanted.index, side="encoder"
    )
    told = await unless_disconnected(request, services.live.direction(asked))
    return json({"vector": _read(wanted, orjson.loads(told))})


def _read(wanted: SourceName, told: Row) -> Row:
    """What a feature reads, in the shape of a vector that nobody made."""
    return {
        "modelId": wanted.modelId,
        "layer": wanted.source,
        "index": str(wanted.index),
        "vectorLabel": "",
        "createdAt": None,
        "creatorId": None,
        "vectorDefaultSteerStrength": STRENGTH,
        "hookName": told["hook"],
        "vector": told["vector"],
    }


@router.post(
    "/api/vector/delete",
    summary="Delete a vector, as Neuronpedia's clients ask",
    response_model=NpMessage,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_delete_vector(
    services: Use,
    owner: Owner,
    wanted: Annotated[
        SourceName,
        Body(openapi_examples={"yours": {"summary": "A vector of yours", "value": _YOURS}}),
    ],
) -> Response:
    """Delete a vector. There is no way back."""
    vectors.remove(services.shelf, owner, wanted.name)
    return json({"message": "Success"})


@router.post(
    "/api/vector/list-owned",
    summary="List one's vectors, as Neuronpedia's clients ask",
    response_model=NpVectors,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_list_vectors(services: Use, owner: Owner) -> Response:
    """The key's vectors, newest first. It takes no body."""
    owned = vectors.owned(services.shelf, owner)
    return json({"vectors": [vector_row(one) for one in owned]})
