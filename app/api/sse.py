"""Server-sent events: frames, and streams that stay alive, end with the server, and never buffer."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import orjson
from anyio import CancelScope
from starlette.responses import StreamingResponse

from app.api.disconnect import end
from app.errors import TooMany

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
AGAIN_S = 5
"""Seconds after which somebody may ask again for whom there was no stream."""
_TICK_S = 0.5
_AHEAD = 16
"""Frames that are fetched before the client takes them."""
_KEEP_ALIVE = b": keep-alive\n\n"


def never() -> bool:
    """For servers that do not say when they stop."""
    return False


@dataclass
class Streams:
    """The streams that a process has open. A few more than the limit may begin at the same time."""

    limit: int
    is_valid: Callable[[str], bool] = lambda _: True
    """Whether a key may still ask: streams of one that was revoked end."""
    stopping: Callable[[], bool] = never
    """Whether the server has begun to stop; streams end then."""
    n_open: int = 0
    by_key: Counter[str] = field(default_factory=Counter)

    def count(self, key: str | None, more: int) -> None:
        """Note one that begins or ends."""
        self.n_open += more
        if key:
            self.by_key.update({key: more})

    def check(self, key: str | None) -> None:
        """Raise TooMany where there are as many as may be, of all or of a key."""
        most = max(1, self.limit // 4)
        if key and self.by_key[key] >= most:
            raise TooMany(
                f"This key has {self.by_key[key]:,} event streams open, a quarter of what may be "
                "(SAESCOPE_MAX_STREAMS). Close some, or ask without a stream.",
                AGAIN_S,
            )
        if self.n_open >= self.limit:
            raise TooMany(
                f"There are {self.n_open:,} event streams open, as many as may be "
                "(SAESCOPE_MAX_STREAMS). Ask again later, or without a stream.",
                AGAIN_S,
            )


def frame(event: str, data: object, id: str | None = None) -> bytes:
    """One event; `data` is what orjson takes, or JSON already."""
    body = data if isinstance(data, bytes) else orjson.dumps(data)
    name = f"id: {id}\nevent: {event}" if id else f"event: {event}"
    return b"%b\ndata: %b\n\n" % (name.encode(), body)


def data_frame(data: object) -> bytes:
    """One event without a name; `data` is what orjson takes."""
    return b"data: %b\n\n" % orjson.dumps(data)


def event_stream(
    source: AsyncGenerator[bytes, None], streams: Streams, key: str | None
) -> StreamingResponse:
    """The response that sends `source`, frame by frame, to who has a key. `source` is closed when the
    client goes."""
    return StreamingResponse(
        _lively(source, streams, key),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        media_type=MEDIA_TYPE,
    )


async def _lively(
    source: AsyncGenerator[bytes, None], streams: Streams, key: str | None
) -> AsyncGenerator[bytes, None]:
    # A queue, since waiting for each frame by a task of its own takes longer than all the rest.
    frames: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
    pumping = asyncio.ensure_future(_pump(source, frames))
    silent_s = 0.0
    streams.count(key, 1)
    try:
        while not streams.stopping() and (key is None or streams.is_valid(key)):
            try:
                async with asyncio.timeout(_TICK_S):
                    data = await frames.get()
            except TimeoutError:
                if (silent_s := silent_s + _TICK_S) >= KEEP_ALIVE_S:
                    silent_s = 0.0
                    yield _KEEP_ALIVE
                continue
            if data is None:
                await pumping
                return
            silent_s = 0.0
            yield data
    finally:
        streams.count(key, -1)
        await end(pumping)
        with CancelScope(shield=True):
            await source.aclose()


async def _pump(source: AsyncGenerator[bytes, None], frames: asyncio.Queue[bytes | None]) -> None:
    failed: Exception | None = None
    try:
        async for data in source:
            await frames.put(data)
    except Exception as error:  # noqa: BLE001  for the reader, behind the frames that came before
        failed = error
    await frames.put(None)
    if failed:
        raise failed
