"""Steered conversations."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Body, Request, Response

from app.api.disconnect import unless_disconnected
from app.api.limits import check_text
from app.api.problems import invalid
from app.api.state import Use
from app.compat.inference.base import PREFIX
from app.compat.inference.examples import STEER_CHAT, shown
from app.compat.inference.outputs import Outputs, chat
from app.compat.inference.steer import responses
from app.compat.inference.steer_requests import (
    ROLES,
    NPSteerChatMessage,
    SteerCompletionChatRequest,
)
from app.compat.inference.steer_shapes import SteerCompletionChatResponse
from app.compat.inference.streams import answered, streamed
from app.compat.inference.wanted import checked_model, interventions, wanted_of
from app.contract.reading import RenderedMessage, RenderRequest
from app.errors import Invalid

router = APIRouter(prefix=PREFIX, tags=["inference"])

_EXAMPLE = (
    'data: {"outputs":[{"chatTemplate":[{"content":"Hello","role":"user"},{"content":"Hi","role":'
    '"assistant"}],"raw":"<user>Hello<assistant>Hi","type":"STEERED"}],"input":{"chatTemplate":'
    '[{"content":"Hello","role":"user"}],"raw":"<user>Hello<assistant>"}}\n\n'
)


@router.post(
    "/v1/steer/completion-chat",
    summary="Go on with a conversation, steered and not",
    response_model=SteerCompletionChatResponse,
    responses=responses(_EXAMPLE),
)
async def infer_chat(
    request: Request,
    services: Use,
    body: Annotated[
        SteerCompletionChatRequest,
        Body(openapi_examples=shown({"For a model of yours": STEER_CHAT})),
    ],
) -> Response:
    """As `/v1/steer/completion`, for a conversation in the form of the model's chat template, which the
    bundled model has not. With `streamFormat: "delta"` events are those of `/v1/steer/completion`.
    """
    if body.is_assistant_axis:
        raise Invalid("isAssistantAxis is not served here: it takes persona vectors; leave it out.")
    messages = [_message(place, one) for place, one in enumerate(body.prompt)]
    check_text(services.settings, "body.prompt", "".join(one.content for one in messages))
    model = await checked_model(services, body)
    steered = await interventions(services, body, model)
    asked = services.live.render(RenderRequest(model=model, messages=messages))
    told = orjson.loads(await unless_disconnected(request, asked))
    wanted = wanted_of(body, model, told["ids"], steered)
    outputs = Outputs(body.types, bool(body.n_logprobs))
    whole = chat([one.model_dump() for one in body.prompt], told["text"])
    if not body.stream:
        return await answered(request, services, wanted, outputs, whole)
    frame = Outputs.deltas if body.stream_format == "delta" else whole
    return await streamed(request, services, wanted, outputs, frame)


def _message(place: int, one: NPSteerChatMessage) -> RenderedMessage:
    if one.role not in ROLES:
        raise invalid(f"body.prompt.{place}.role", f"is {one.role[:64]!r}", ", ".join(ROLES))
    return RenderedMessage(role=ROLES[one.role], content=one.content)
