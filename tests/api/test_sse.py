"""Server-sent events: frames, keep-alives, and how a stream ends."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.api import sse


def test_frame() -> None:
    assert sse.frame("delta", {"text": "a\nb"}) == b'event: delta\ndata: {"text":"a\\nb"}\n\n'
    assert sse.frame("done", b"{}", id="ended") == b"id: ended\nevent: done\ndata: {}\n\n"


class Source:
    """Frames with pauses, and whether it was closed."""

    def __init__(self, *pauses_s: float) -> None:
        self.pauses_s = pauses_s
        self.closed = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            for number, pause_s in enumerate(self.pauses_s):
                await asyncio.sleep(pause_s)
                yield sse.frame("tick", number)
        finally:
            self.closed = True


async def read(source: Source, stopping_after: int = 10**9) -> list[bytes]:
    seen: list[bytes] = []
    streams = sse.Streams(1, stopping=lambda: len(seen) >= stopping_after)
    stream = sse.event_stream(source.frames(), streams, None)
    async for chunk in stream.body_iterator:
        assert isinstance(chunk, bytes)
        seen.append(chunk)
    return seen


def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(sse, "_TICK_S", 0.05)
    source = Source(0, 1.0)
    seen = asyncio.run(read(source))
    assert [chunk for chunk in seen if chunk.startswith(b"event")] == [
        sse.frame("tick", 0),
        sse.frame("tick", 1),
    ]
    assert b": keep-alive\n\n" in seen[1:-1]
    assert source.closed


def test_a_stream_ends_with_the_server() -> None:
    source = Source(0, 0, 3_600)
    assert len(asyncio.run(read(source, stopping_after=2))) == 2
    assert source.closed


def test_a_reader_that_leaves_closes_the_source() -> None:
    source = Source(0, 3_600)

    async def leave() -> None:
        stream = sse.event_stream(source.frames(), sse.Streams(1), None)
        iterator = aiter(stream.body_iterator)
        await anext(iterator)
        waiting = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(leave())
    assert source.closed


def test_a_slow_reader_that_leaves_closes_the_source() -> None:
    """More frames are waiting than are fetched ahead."""
    source = Source(*[0] * 200)

    async def leave() -> None:
        stream = sse.event_stream(source.frames(), sse.Streams(1), None)
        iterator: Any = aiter(stream.body_iterator)
        await anext(iterator)
        await asyncio.sleep(0.05)
        assert not source.closed
        await asyncio.wait_for(iterator.aclose(), 5)

    asyncio.run(leave())
    assert source.closed


def test_what_the_source_raises_comes_behind_its_frames() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b"two"
        raise RuntimeError("gone")

    async def read_all() -> list[object]:
        seen: list[object] = []
        with pytest.raises(RuntimeError, match="gone"):
            async for chunk in sse.event_stream(failing(), sse.Streams(1), None).body_iterator:
                seen.append(chunk)
        return seen

    assert asyncio.run(read_all()) == [b"one", b"two"]
