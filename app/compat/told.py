"""What the live worker tells of steered and unsteered texts, as Neuronpedia's services tell it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import orjson

from app.api import sse
from app.errors import Problem, Unavailable, from_body

Row = dict[str, Any]
Events = AsyncGenerator[Row, None]


def drawn(one: Row) -> orjson.Fragment:
    """JSON of a token that was drawn, with the most probable ones: every frame has all of them again."""
    top = [{"token": other["token"], "logprob": other["logprob"]} for other in one["top"]]
    told = {"token": one["token"], "logprob": one["logprob"], "topLogprobs": top}
    return orjson.Fragment(orjson.dumps(told))


async def frames(
    event: Row | None,
    events: Events,
    add: Callable[[int, Row], None],
    shown: Callable[[], Row],
    error_of: Callable[[Mapping[str, Any]], Row],
) -> AsyncGenerator[bytes, None]:
    """A frame each time that there is something new of a text, from `CompleteEvent`s, the first of which
    has come: `add` takes what is new of a choice, `shown` makes the frame. A problem in the middle is the
    last frame. `events` is closed at the end."""
    try:
        while event and event["event"] == "delta":
            if event["text"] or event.get("logprobs"):
                add(event["choice"], event)
                yield sse.data_frame(shown())
            event = await anext(events, None)
        if event is None:
            raise Unavailable("The live worker ended its answer in the middle; try again.")
        if event["event"] == "error":
            raise from_body(event.get("problem") or {})
    except Problem as problem:
        yield sse.data_frame(error_of(problem.body()))
    finally:
        await events.aclose()
