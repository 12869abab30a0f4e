"""Frames of two texts that come at the same time, whatever comes in between."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from app.compat.inference.outputs import Outputs, completion
from app.compat.inference.streams import _frames, together

PROBLEM = {
    "event": "error",
    "problem": {
        "type": "urn:saescope:problem:unavailable",
        "title": "Not available now",
        "status": 503,
        "detail": "It is over.",
    },
}
DONE = {"event": "done", "usage": {}}


def delta(text: str) -> dict[str, Any]:
    return {"event": "delta", "choice": 0, "text": text, "finish_reason": None}


class Source:
    """Events that come one at a time, as who asks takes them."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events, self.closed = events, False

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        try:
            for event in self.events:
                await asyncio.sleep(0)
                yield event
        finally:
            self.closed = True


async def told(steered: Source, default: Source, most: int = 100) -> list[dict[str, Any]]:
    sources = {"STEERED": steered.stream(), "DEFAULT": default.stream()}
    begun = {name: await anext(one) for name, one in sources.items()}
    outputs = Outputs(["STEERED", "DEFAULT"], with_logprobs=False)
    frames = _frames(sources, begun, outputs, completion)
    found = []
    async for frame in frames:
        found.append(orjson.loads(frame.removeprefix(b"data: ")))
        if len(found) == most:
            break
    await frames.aclose()
    assert steered.closed and default.closed
    return found


def texts(frame: dict[str, Any]) -> list[str]:
    return [one["output"] for one in frame["outputs"]]


def test_the_last_frame_has_all_of_both() -> None:
    for extra in range(6):
        steered = Source(delta("a"), *[delta("b")] * extra, DONE)
        frames = asyncio.run(told(steered, Source(delta("c"), delta("d"), DONE)))
        assert texts(frames[-1]) == ["a" + "b" * extra, "cd"]


def test_a_text_without_anything_ends_as_well() -> None:
    frames = asyncio.run(told(Source(DONE), Source(delta(""), delta("x"), DONE)))
    assert [texts(frame) for frame in frames] == [["", "x"]]
    assert asyncio.run(told(Source(DONE), Source(DONE))) == []


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        ([PROBLEM], "It is over."),
        ([], "The live worker ended its answer in the middle; try again."),
    ],
)
def test_an_error_in_the_middle_is_the_last_frame(
    ending: list[dict[str, Any]], sentence: str
) -> None:
    endless = Source(*[delta("c")] * 10_000)
    frames = asyncio.run(told(Source(delta("a"), delta("b"), *ending), endless))
    assert frames[-1] == {"error": sentence}
    assert texts(frames[-2])[0] in ("a", "ab") and len(frames) < 100


def test_who_stops_reading_ends_both() -> None:
    endless = [Source(*[delta("c")] * 10_000) for _ in range(2)]
    assert len(asyncio.run(told(*endless, most=3))) == 3


def test_what_one_raises_ends_the_others() -> None:
    ended = []

    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(together(patient(), broken(), patient()))
    assert ended == [True, True]
