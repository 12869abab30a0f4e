"""The first event of a stream from the live worker: what fails before it is an ordinary problem."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request

from app.api.disconnect import unless_disconnected
from app.api.sse import Streams
from app.errors import from_body
from app.observe import KEY


async def first_event(
    request: Request, streams: Streams, events: AsyncGenerator[dict[str, Any], None]
) -> dict[str, Any] | None:
    """The first event, None when there is none. An error is raised as the problem that it tells; TooMany
    where too many streams are open."""
    streams.check(request.scope.get(KEY))
    first = await unless_disconnected(request, anext(events, None))
    if first and first["event"] == "error":
        raise from_body(first.get("problem") or {})
    return first
