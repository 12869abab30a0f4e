"""Frames of two texts that come in one stream, whatever comes in between."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from app.compat.inference.errors import body_of
from app.compat.inference.outputs import Outputs, completion
from app.compat.told import frames

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


def delta(choice: int, text: str) -> dict[str, Any]:
    return {"event": "delta", "choice": choice, "text": text, "finish_reason": None}


async def told(*events: dict[str, Any], most: int = 100) -> list[dict[str, Any]]:
    """The frames of these events, at most so many."""
    closed = []

    async def stream() -> AsyncGenerator[dict[str, Any], None]:
        try:
            for event in events:
                yield event
        finally:
            closed.append(True)

    source, outputs = stream(), Outputs(["STEERED", "DEFAULT"], with_logprobs=False)
    first = await anext(source, None)
    made = frames(first, source, outputs.add, lambda: completion(outputs), body_of)
    found = []
    async for frame in made:
        found.append(orjson.loads(frame.removeprefix(b"data: ")))
        if len(found) == most:
            break
    await made.aclose()
    assert closed == [True]
    return found


def texts(frame: dict[str, Any]) -> list[str]:
    return [one["output"] for one in frame["outputs"]]


def test_the_last_frame_has_all_of_both() -> None:
    some = [delta(0, "a"), delta(1, "c"), delta(1, "d"), delta(0, "b"), DONE]
    found = [texts(frame) for frame in asyncio.run(told(*some))]
    assert found == [["a", ""], ["a", "c"], ["a", "cd"], ["ab", "cd"]]


def test_what_says_nothing_is_no_frame() -> None:
    found = asyncio.run(told(delta(1, ""), delta(1, "x"), delta(0, ""), DONE))
    assert [texts(frame) for frame in found] == [["", "x"]]
    assert asyncio.run(told(DONE)) == []


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
    found = asyncio.run(told(delta(0, "a"), delta(0, "b"), *ending))
    assert texts(found[-2]) == ["ab", ""]
    assert found[-1] == {"error": sentence}


def test_who_stops_reading_ends_the_generation() -> None:
    assert len(asyncio.run(told(*[delta(0, "c")] * 10_000, most=3))) == 3
