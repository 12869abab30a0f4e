"""Answers about steered texts, whole or as a stream of frames."""

from typing import Any

import orjson
from fastapi import Request, Response

from app.api import sse
from app.api.disconnect import unless_disconnected
from app.api.opening import first_event
from app.api.state import Services
from app.compat.inference.base import as_json
from app.compat.inference.errors import body_of
from app.compat.inference.outputs import Frame, Outputs
from app.compat.told import frames
from app.contract.complete import CompleteRequest
from app.observe import KEY


async def answered(
    request: Request, services: Services, wanted: CompleteRequest, outputs: Outputs, frame: Frame
) -> Response:
    """The answer as a whole."""
    told = await unless_disconnected(request, services.live.complete(wanted))

    def whole() -> dict[str, Any]:
        for place, choice in enumerate(orjson.loads(told)["choices"]):
            outputs.add(place, choice)
        return frame(outputs)

    return await as_json(whole)


async def streamed(
    request: Request, services: Services, wanted: CompleteRequest, outputs: Outputs, frame: Frame
) -> Response:
    """The answer as server-sent events, each of which `frame` makes. What fails in front of the first
    one is an ordinary error. The generation ends with the connection."""

    def shown() -> dict[str, Any]:
        told = frame(outputs)
        outputs.settle()
        return told

    events = services.live.complete_events(wanted)
    first = await first_event(request, services.streams, events)
    sent = frames(first, events, outputs.add, shown, body_of)
    return sse.event_stream(sent, services.streams, request.scope.get(KEY))
