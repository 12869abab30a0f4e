"""The features of an SAE that are most active at each token."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import check_batch, check_prompts, model_id
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import TOPK, batched, shown
from app.compat.inference.requests import (
    ActivationTopkByTokenBatchRequest,
    ActivationTopkByTokenRequest,
)
from app.compat.inference.shapes import (
    ActivationTopkByTokenBatchResponse,
    ActivationTopkByTokenResponse,
)
from app.contract.reading import ActiveRequest

router = APIRouter(prefix=PREFIX, tags=["inference"])


@router.post(
    "/v1/activation/topk-by-token",
    summary="Find what fires at each token",
    response_model=ActivationTopkByTokenResponse,
    responses=DOCUMENTED,
)
async def infer_topk(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationTopkByTokenRequest, Body(openapi_examples=shown({"Three at each": TOPK}))
    ],
) -> Response:
    """The features of one SAE that are most active at each token, only such as are active.

    `tokenPosition` counts BOS, also where `ignoreBos` leaves it out.
    """
    wanted = await _wanted(services, body, [body.prompt])
    ask = services.live.active(wanted)
    ignore = body.ignore_bos
    return await reshaped(request, ask, lambda told: _tokens(told["results"][0], ignore))


@router.post(
    "/v1/activation/topk-by-token-batch",
    summary="Find what fires at each token of several texts",
    response_model=ActivationTopkByTokenBatchResponse,
    responses=DOCUMENTED,
)
async def infer_topk_batch(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationTopkByTokenBatchRequest,
        Body(openapi_examples=shown({"Two texts": batched(TOPK)})),
    ],
) -> Response:
    """As `/v1/activation/topk-by-token`, for at most four texts, which run as one batch."""
    check_batch(body.prompts)
    wanted = await _wanted(services, body, body.prompts)
    ask = services.live.active(wanted)
    ignore = body.ignore_bos
    return await reshaped(
        request, ask, lambda told: {"results": [_tokens(one, ignore) for one in told["results"]]}
    )


async def _wanted(
    services: Services,
    body: ActivationTopkByTokenRequest | ActivationTopkByTokenBatchRequest,
    prompts: list[str],
) -> ActiveRequest:
    check_prompts(services.settings, prompts)
    model = await model_id(services, body.model)
    return ActiveRequest(model=model, texts=prompts, sae=body.source, top_k=body.count)


def _tokens(told: dict[str, Any], ignore_bos: bool) -> dict[str, Any]:
    """From an `ActiveText`."""
    begin = int(ignore_bos and told["begins_with_bos"])
    rows = list(zip(told["tokens"], told["special"], told["top"], strict=True))
    results = [
        {
            "tokenPosition": place,
            "token": token,
            "isSpecial": special,
            "topFeatures": [
                {"featureIndex": one["feature"], "activationValue": one["value"]} for one in top
            ],
        }
        for place, (token, special, top) in enumerate(rows)
    ]
    return {"results": results[begin:], "tokens": told["tokens"][begin:]}
