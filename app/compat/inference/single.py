"""One feature, or one vector, at every token of a text."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import check_batch, check_prompts, model_id
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import SINGLE, VECTOR, batched, shown
from app.compat.inference.requests import (
    ActivationSingleBatchRequest,
    ActivationSingleRequest,
)
from app.compat.inference.shapes import ActivationSingleBatchResponse, ActivationSingleResponse
from app.contract.reading import ValuesRequest
from app.errors import Invalid

router = APIRouter(prefix=PREFIX, tags=["inference"])


@router.post(
    "/v1/activation/single",
    summary="See one feature or vector on a text",
    response_model=ActivationSingleResponse,
    responses=DOCUMENTED,
)
async def infer_single(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationSingleRequest,
        Body(openapi_examples=shown({"A feature": SINGLE, "A vector": VECTOR})),
    ],
) -> Response:
    """Activations of a feature (`source` and `index`), or dot products of the states with a vector
    (`vector` and `hook`), token by token.

    For a feature the text begins with BOS as the SAE was trained, and what is told begins behind it.
    For a vector it begins with BOS only where the model's tokenizer puts one, and all of it is told.
    """
    wanted = await _wanted(services, body, [body.prompt])
    ask = services.live.values(wanted)
    return await reshaped(request, ask, lambda told: _single(told["results"][0], wanted))


@router.post(
    "/v1/activation/single-batch",
    summary="See one feature or vector on several texts",
    response_model=ActivationSingleBatchResponse,
    responses=DOCUMENTED,
)
async def infer_single_batch(
    request: Request,
    services: Use,
    body: Annotated[
        ActivationSingleBatchRequest, Body(openapi_examples=shown({"A feature": batched(SINGLE)}))
    ],
) -> Response:
    """As `/v1/activation/single`, for at most four texts, which run as one batch."""
    check_batch(body.prompts)
    wanted = await _wanted(services, body, body.prompts)
    ask = services.live.values(wanted)
    return await reshaped(
        request, ask, lambda told: {"results": [_single(one, wanted) for one in told["results"]]}
    )


async def _wanted(
    services: Services,
    body: ActivationSingleRequest | ActivationSingleBatchRequest,
    prompts: list[str],
) -> ValuesRequest:
    by_feature = body.source is not None and body.index is not None
    if by_feature == (body.vector is not None and body.hook is not None):
        raise Invalid("Invalid request data: exactly one of layer/index or vector must be provided")
    check_prompts(services.settings, prompts)
    model = await model_id(services, body.model)
    if by_feature:
        feature = int(body.index or "")
        return ValuesRequest(model=model, texts=prompts, sae=body.source, feature=feature)
    return ValuesRequest(model=model, texts=prompts, hook=body.hook, vector=body.vector)


def _single(told: dict[str, Any], wanted: ValuesRequest) -> dict[str, Any]:
    """From a `TextValues`."""
    begin = int(wanted.vector is None and told["begins_with_bos"])
    values = told["values"][begin:]
    if not values:
        raise Invalid("prompt has no tokens besides BOS; give some text.")
    largest = max(values)
    return {
        "activation": {
            "values": values,
            "maxValue": largest,
            "maxValueIndex": values.index(largest),
            "dfaValues": None,
            "dfaMaxValue": None,
            "dfaTargetIndex": None,
        },
        "tokens": told["tokens"][begin:],
        "tokensIsSpecial": told["special"][begin:],
    }
