"""The features of several SAEs that are most active on a text."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import check_batch, check_prompts
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import ALL, SORTED, batched, shown
from app.compat.inference.names import model_of, sources_of
from app.compat.inference.requests import ActivationAllBatchRequest, ActivationAllRequest
from app.compat.inference.shapes import ActivationAllBatchResponse, ActivationAllResponse
from app.contract.reading import RankRequest

router = APIRouter(prefix=PREFIX, tags=["inference"])
Body_ = ActivationAllRequest | ActivationAllBatchRequest


@router.post(
    "/v1/activation/all",
    summary="Find what fires on a text, in several SAEs",
    response_model=ActivationAllResponse,
    responses=DOCUMENTED,
)
async def infer_all(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationAllRequest,
        Body(openapi_examples=shown({"All SAEs of a set": ALL, "At one token": SORTED})),
    ],
) -> Response:
    """The features that are most active on a text, at their strongest token, or added up over
    `sortByTokenIndexes`; of equal ones that of the earlier SAE, then that of the lower index.

    Features that are not active are not told, so there can be fewer than `numResults`.
    """
    wanted = await asyncio.to_thread(_wanted, services, body, [body.prompt])
    ask = services.live.rank(wanted)
    return await reshaped(request, ask, lambda told: _all(told["results"][0], wanted))


@router.post(
    "/v1/activation/all-batch",
    summary="Find what fires on several texts, in several SAEs",
    response_model=ActivationAllBatchResponse,
    responses=DOCUMENTED,
)
async def infer_all_batch(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationAllBatchRequest, Body(openapi_examples=shown({"Two texts": batched(ALL)}))
    ],
) -> Response:
    """As `/v1/activation/all`, for at most four texts, each ranked by itself."""
    check_batch(body.prompts)
    wanted = await asyncio.to_thread(_wanted, services, body, body.prompts)
    ask = services.live.rank(wanted)
    return await reshaped(
        request, ask, lambda told: {"results": [_all(one, wanted) for one in told["results"]]}
    )


def _wanted(services: Services, body: Body_, prompts: list[str]) -> RankRequest:
    check_prompts(services.settings, prompts)
    model = model_of(services.shelf, body.model)
    return RankRequest(
        model=model.id,
        texts=prompts,
        saes=sources_of(services.shelf, model, body.source_set, body.selected_sources),
        at=body.sort_by_token_indexes,
        skip_bos=body.ignore_bos,
        limit=body.limit,
    )


def _all(told: dict[str, Any], wanted: RankRequest) -> dict[str, Any]:
    """From a `RankedText`."""
    features = [_feature(one, bool(wanted.at)) for one in told["features"]]
    return {"activations": features, "tokens": told["tokens"], "counts": None}


def _feature(one: dict[str, Any], summed: bool) -> dict[str, Any]:
    values = one["values"]
    largest = max(values)
    return {
        "source": one["sae"],
        "index": one["feature"],
        "values": values,
        "sumValues": one["score"] if summed else 0.0,
        "maxValue": largest,
        "maxValueIndex": values.index(largest),
        "dfaValues": None,
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
    }
