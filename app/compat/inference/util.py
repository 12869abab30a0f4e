"""What features read, and which write alike."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import model_id
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import COSSIM, COSSIM_VECTOR, SAE_VECTOR, shown
from app.compat.inference.names import model_of
from app.compat.inference.requests import (
    UtilSaeTopkByDecoderCossimRequest,
    UtilSaeVectorRequest,
)
from app.compat.inference.shapes import UtilSaeTopkByDecoderCossimResponse, UtilSaeVectorResponse
from app.contract.ids import is_neuron_source
from app.contract.reading import CosinesRequest, DirectionRequest
from app.errors import Invalid, NotFound
from app.store import read

router = APIRouter(prefix=PREFIX, tags=["inference"])


@router.post(
    "/v1/util/sae-vector",
    summary="Get what a feature reads",
    response_model=UtilSaeVectorResponse,
    responses=DOCUMENTED,
)
async def infer_sae_vector(
    request: Request,
    services: Use,
    body: Annotated[UtilSaeVectorRequest, Body(openapi_examples=shown({"A feature": SAE_VECTOR}))],
) -> Response:
    """The feature's column of the encoder, in the units of activations: `W_enc[:, index]` of SAELens
    once `fold_W_dec_norm` was called."""
    model = await model_id(services, body.model)
    wanted = DirectionRequest(model=model, sae=body.source, feature=body.index, side="encoder")
    return await reshaped(
        request,
        services.live.direction(wanted),
        lambda told: {"vector": told["vector"], "hookName": told["hook"]},
    )


@router.post(
    "/v1/util/sae-topk-by-decoder-cossim",
    summary="Find features that write alike",
    response_model=UtilSaeTopkByDecoderCossimResponse,
    responses=DOCUMENTED,
)
async def infer_cossim(
    request: Request,
    services: Use,
    body: Annotated[
        UtilSaeTopkByDecoderCossimRequest,
        Body(openapi_examples=shown({"Like a feature": COSSIM, "Like a vector": COSSIM_VECTOR})),
    ],
) -> Response:
    """The features of `source` whose decoder rows have the largest cosines with that of a feature,
    which may be of another SAE of the model, or with a vector."""
    wanted = await asyncio.to_thread(_wanted, services, body)
    return await reshaped(
        request, services.live.cosines(wanted), lambda told: _alike(told, body, wanted.model)
    )


def _wanted(services: Services, body: UtilSaeTopkByDecoderCossimRequest) -> CosinesRequest:
    if (body.feature is None) == (body.vector is None):
        raise Invalid("Invalid request data: exactly one of feature or vector must be provided")
    model = model_of(services.shelf, body.model)
    if body.feature and body.feature.model != model.id:
        raise Invalid(
            f"feature.model is {body.feature.model!r}; it must be {model.id}, as model is."
        )
    for source in (body.source, body.feature and body.feature.source):
        if source is not None:
            _check_source(services, model.id, source)
    return CosinesRequest(
        model=model.id,
        sae=body.source,
        of=body.feature and body.feature.source,
        feature=body.feature and body.feature.index,
        vector=body.vector,
        limit=body.limit,
    )


def _check_source(services: Services, model: str, source: str) -> None:
    try:
        read.sae(services.shelf, model, source)
    except NotFound:
        if not is_neuron_source(source):
            raise Invalid(f"Invalid SAE ID or type: {source}") from None


def _alike(
    told: dict[str, Any], body: UtilSaeTopkByDecoderCossimRequest, model: str
) -> dict[str, Any]:
    """From a `CosinesAnswer`."""
    return {
        "feature": body.feature and body.feature.model_dump(),
        "topkDecoderCossimFeatures": [
            {
                "feature": {"model": model, "source": body.source, "index": one["feature"]},
                "cosineSimilarity": one["cosine"],
            }
            for one in told["features"]
        ],
    }
