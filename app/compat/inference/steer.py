"""Steered texts."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request, Response

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.limits import check_text
from app.api.state import Use
from app.compat.inference.base import PREFIX
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import STEER, STEER_DELTAS, STEER_VECTOR, shown
from app.compat.inference.outputs import Outputs, completion
from app.compat.inference.steer_requests import SteerCompletionRequest
from app.compat.inference.steer_shapes import SteerCompletionResponse
from app.compat.inference.streams import answered, streamed
from app.compat.inference.wanted import checked_model, interventions, wanted_of
from app.contract.live import TokenizeRequest

router = APIRouter(prefix=PREFIX, tags=["inference"])

_EXAMPLE = (
    'data: {"outputs":[{"type":"STEERED","output":" was"},{"type":"DEFAULT","output":""}]}\n\n'
)


def responses(example: str) -> dict[int | str, dict[str, Any]]:
    """With `example` a frame of the stream."""
    stream = {"schema": {"type": "string"}, "example": example}
    said = "The answer; with `stream` its events."
    return {200: {"content": {sse.MEDIA_TYPE: stream}, "description": said}, **DOCUMENTED}


@router.post(
    "/v1/steer/completion",
    summary="Go on with a text, steered and not",
    response_model=SteerCompletionResponse,
    responses=responses(_EXAMPLE),
)
async def infer_completion(
    request: Request,
    services: Use,
    body: Annotated[
        SteerCompletionRequest,
        Body(
            openapi_examples=shown(
                {
                    "A feature": STEER,
                    "A vector": STEER_VECTOR,
                    "Streamed, what is new": STEER_DELTAS,
                }
            )
        ),
    ],
) -> Response:
    """Text that goes on with a prompt, steered by features or vectors, and without; both are generated
    at the same time. BOS is put in front where the model has one.

    Every event of a stream has all of the texts so far; with `streamFormat: "delta"` it has what is
    new, of the texts of which something is. An error in the middle is an event with `error`. Closing
    the connection stops the generation.
    """
    check_text(services.settings, "body.prompt", body.prompt)
    model = await checked_model(services, body)
    steered = await interventions(services, body, model)
    asked = services.live.tokenize(TokenizeRequest(model=model, text=body.prompt))
    prompt = orjson.loads(await unless_disconnected(request, asked))["ids"]
    wanted = wanted_of(body, model, prompt, steered)
    outputs = Outputs(body.types, bool(body.n_logprobs))
    if not body.stream:
        return await answered(request, services, wanted, outputs, completion)
    frame = Outputs.deltas if body.stream_format == "delta" else completion
    return await streamed(request, services, wanted, outputs, frame)
