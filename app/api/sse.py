"""Server-sent events: frames, and streams that stay alive, end with the server, and never buffer."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import orjson
from anyio import CancelScope
from starlette.responses import StreamingResponse

from app.api.disconnect import end

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
_TICK_S = 0.5
_KEEP_ALIVE = b": keep-alive\n\n"


def frame(event: str, data: object, id: str | None = None) -> bytes:
    """One event; `data` is what orjson takes, or JSON already."""
    body = data if isinstance(data, bytes) else orjson.dumps(data)
    name = f"id: {id}\nevent: {event}" if id else f"event: {event}"
    return b"%b\ndata: %b\n\n" % (name.encode(), body)


def event_stream(
    source: AsyncGenerator[bytes, None], stopping: Callable[[], bool]
) -> StreamingResponse:
    """The response that sends `source`, frame by frame. `source` is closed when the client goes."""
    return StreamingResponse(
        _lively(source, stopping),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type=MEDIA_TYPE,
    )


async def _lively(
    source: AsyncGenerator[bytes, None], stopping: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    silent_s = 0.0
    pending = asyncio.ensure_future(anext(source, None))
    try:
        while not stopping():
            await asyncio.wait({pending}, timeout=_TICK_S)
            if pending.done():
                data, silent_s = pending.result(), 0.0
                if data is None:
                    return
                yield data
                pending = asyncio.ensure_future(anext(source, None))
            elif (silent_s := silent_s + _TICK_S) >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield _KEEP_ALIVE
    finally:
        await end(pending)
        with CancelScope(shield=True):
            await source.aclose()
