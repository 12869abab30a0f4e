"""Features that write alike, and a text as tokens."""

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field, StrictBool

from app.api.disconnect import unless_disconnected
from app.api.state import Services, Use
from app.compat.neuronpedia.answer import json
from app.compat.neuronpedia.errors import ASKS
from app.compat.neuronpedia.names import Asked, SourceName
from app.compat.neuronpedia.targets import vector_of
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import Id
from app.contract.live import TokenizeRequest
from app.contract.reading import CosinesRequest, DirectionRequest
from app.rows.found import Name

router = APIRouter(tags=["neuronpedia"])

ALIKE = 10
"""Features in an answer."""
MOST_CHARACTERS = 10_000


class Compared(SourceName):
    """A feature or a vector, and the SAE to look into."""

    targetModelId: Id
    targetSourceId: Id


class TokensWanted(Asked):
    """A text."""

    prompt: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    modelId: Id
    prependBos: StrictBool | None = Field(default=True, description="Put BOS in front.")


class NpFeatureOf(BaseModel):
    """A feature."""

    model: str
    source: str
    index: int


class NpAlike(BaseModel):
    """A feature that writes in a like direction."""

    feature: NpFeatureOf
    cosineSimilarity: float


class NpCosines(BaseModel):
    """The features that are most alike."""

    feature: NpFeatureOf | None = Field(description="Null for a vector.")
    topkDecoderCossimFeatures: list[NpAlike]


class NpTokens(BaseModel):
    """A text as tokens."""

    tokens: list[int]
    tokenStrings: list[str]
    prependBos: bool


@router.post(
    "/api/cossim",
    summary="Find features that write alike, as Neuronpedia's clients ask",
    response_model=NpCosines,
    responses=ASKS,
)
async def np_compare(
    request: Request,
    services: Use,
    body: Annotated[
        Compared,
        Body(
            openapi_examples={
                "sae": {
                    "summary": "In the other SAE of the layer",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "source": BUNDLED_SAES[0],
                        "index": 266,
                        "targetModelId": BUNDLED_MODEL,
                        "targetSourceId": BUNDLED_SAES[1],
                    },
                }
            }
        ),
    ],
) -> Response:
    """The ten features of an SAE whose decoder directions have the largest cosine with a feature's, or
    with a vector. A feature is most like itself."""
    model, sae = body.targetModelId, body.targetSourceId
    wanted = CosinesRequest(model=model, sae=sae, limit=ALIKE)
    vector = await asyncio.to_thread(vector_of, services.shelf, body.name)
    if vector:
        wanted.vector = vector.values.tolist()
    elif body.modelId == model:
        wanted.of, wanted.feature = body.source, body.index
    else:
        wanted.vector = await _direction(request, services, body.name)
    told = orjson.loads(await unless_disconnected(request, services.live.cosines(wanted)))
    alike = [
        {
            "feature": {"model": model, "source": sae, "index": one["feature"]},
            "cosineSimilarity": one["cosine"],
        }
        for one in told["features"]
    ]
    own = {"model": body.modelId, "source": body.source, "index": body.index}
    return json({"feature": None if vector else own, "topkDecoderCossimFeatures": alike})


async def _direction(request: Request, services: Services, name: Name) -> list[float]:
    """What a feature writes."""
    wanted = DirectionRequest(model=name.model, sae=name.sae, feature=name.feature, side="decoder")
    told = await unless_disconnected(request, services.live.direction(wanted))
    return orjson.loads(told)["vector"]


@router.post(
    "/api/tokenize",
    summary="Cut a text into tokens, as Neuronpedia's clients ask",
    response_model=NpTokens,
    responses=ASKS,
)
async def np_tokenize(
    request: Request,
    services: Use,
    body: Annotated[
        TokensWanted,
        Body(
            openapi_examples={
                "text": {
                    "summary": "A text without BOS",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "prompt": "The quick brown fox",
                        "prependBos": False,
                    },
                }
            }
        ),
    ],
) -> Response:
    """A text's tokens: their ids, and what they are shown as."""
    prepends = body.prependBos is not False
    wanted = TokenizeRequest(model=body.modelId, text=body.prompt, prepend_bos=prepends)
    told = orjson.loads(await unless_disconnected(request, services.live.tokenize(wanted)))
    return json(
        {
            "tokens": told["ids"],
            "tokenStrings": told["tokens"],
            "prependBos": told["begins_with_bos"],
        }
    )
