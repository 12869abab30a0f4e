"""Vectors: directions in the residual stream, to be steered by as features are. They belong to the key
that made them; whoever knows a vector's name may read it."""

from datetime import datetime
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.problems import invalid
from app.api.state import Use
from app.compat.neuronpedia.answer import json
from app.compat.neuronpedia.errors import ASKS, CHANGES
from app.compat.neuronpedia.keys import Owner
from app.compat.neuronpedia.names import Asked, SourceName, Text
from app.compat.neuronpedia.owned import new_vector_row, vector_row
from app.contract.ids import Id
from app.store import read, vectors
from app.store.records import ModelRecord
from app.store.vectors import MOST_VALUES

router = APIRouter(tags=["neuronpedia"])
STRONGEST = 300


class NewVector(Asked):
    """A vector to keep."""

    modelId: Id
    layerNumber: int = Field(ge=0, le=10_000)
    hookType: Literal["hook_resid_pre", "hook_resid_post"]
    vector: list[float] = Field(
        min_length=1, max_length=MOST_VALUES, description="As long as the residual stream is wide."
    )
    vectorDefaultSteerStrength: Annotated[float, Field(ge=-STRONGEST, le=STRONGEST)] | None = 10
    vectorLabel: Annotated[Text, Field(max_length=200, pattern=r"\S")]


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
    createdAt: datetime
    creatorId: str
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
)
def np_new_vector(request: Request, services: Use, owner: Owner, wanted: NewVector) -> Response:
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
        10 if strength is None else strength,
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
def np_get_vector(services: Use, wanted: SourceName) -> Response:
    """One vector. It needs no key."""
    return json({"vector": vector_row(vectors.find(services.shelf, *wanted.name))})


@router.post(
    "/api/vector/delete",
    summary="Delete a vector, as Neuronpedia's clients ask",
    response_model=NpMessage,
    responses=CHANGES,
)
def np_delete_vector(services: Use, owner: Owner, wanted: SourceName) -> Response:
    """Delete a vector. There is no way back."""
    vectors.remove(services.shelf, owner, wanted.name)
    return json({"message": "Success"})


@router.post(
    "/api/vector/list-owned",
    summary="List one's vectors, as Neuronpedia's clients ask",
    response_model=NpVectors,
    responses=CHANGES,
)
def np_list_vectors(services: Use, owner: Owner) -> Response:
    """The key's vectors, newest first. It takes no body."""
    owned = vectors.owned(services.shelf, owner)
    return json({"vectors": [vector_row(one) for one in owned]})
