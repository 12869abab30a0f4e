"""Answers of several requests that run at the same time, whole or as one stream of frames."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

import orjson
from fastapi import Request, Response

from app.api import sse
from app.api.disconnect import end, unless_disconnected
from app.api.state import Services
from app.compat.inference.base import as_json
from app.compat.inference.errors import error_of
from app.compat.inference.outputs import Frame, Outputs
from app.compat.inference.steer_requests import SteerType
from app.contract.complete import CompleteRequest
from app.errors import Problem, Unavailable, from_body

Events = AsyncGenerator[dict[str, Any], None]


async def answered(
    request: Request,
    services: Services,
    wanted: dict[SteerType, CompleteRequest],
    outputs: Outputs,
    frame: Frame,
) -> Response:
    """The answer as a whole."""
    asks = [services.live.complete(one) for one in wanted.values()]
    told = await unless_disconnected(request, together(*asks))

    def whole() -> dict[str, Any]:
        for type_, answer in zip(wanted, told, strict=True):
            (choice,) = orjson.loads(answer)["choices"]
            outputs.texts[type_].add(choice["text"], choice.get("logprobs"))
        return frame(outputs)

    return await as_json(whole)


async def streamed(
    request: Request,
    services: Services,
    wanted: dict[SteerType, CompleteRequest],
    outputs: Outputs,
    frame: Frame,
) -> Response:
    """The answer as server-sent events, each of which `frame` makes. What fails in front of the first
    one is an ordinary error. The requests end with the connection."""
    events: dict[SteerType, Events] = {
        type_: services.live.complete_events(one) for type_, one in wanted.items()
    }
    try:
        firsts = await unless_disconnected(
            request, together(*(_first(one) for one in events.values()))
        )
    except BaseException:
        await _close(events)
        raise
    begun = dict(zip(events, firsts, strict=True))
    return sse.event_stream(_frames(events, begun, outputs, frame), services.stopping)


async def together(*asks: Coroutine[Any, Any, Any]) -> list[Any]:
    """All results. What one of them raises ends the others."""
    tasks = [asyncio.ensure_future(ask) for ask in asks]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(*tasks)


async def _first(events: Events) -> dict[str, Any]:
    event = await anext(events, None)
    return _checked(event)


def _checked(event: dict[str, Any] | None) -> dict[str, Any]:
    """A delta or a last event; an error is raised as the problem that it tells."""
    if event is None:
        raise Unavailable("The live worker ended its answer in the middle; try again.")
    if event["event"] == "error":
        raise from_body(event.get("problem") or {})
    return event


async def _frames(
    events: dict[SteerType, Events],
    begun: dict[SteerType, dict[str, Any]],
    outputs: Outputs,
    frame: Callable[[Outputs], dict[str, Any]],
) -> AsyncGenerator[bytes, None]:
    """A frame whenever something is new; an error in the middle is the last one."""
    news = _News(outputs)
    tasks = [
        asyncio.ensure_future(news.follow(type_, begun[type_], one))
        for type_, one in events.items()
    ]
    try:
        while await news.wait(tasks):
            told = frame(outputs)
            outputs.settle()
            yield sse.data_frame(told)
    except Problem as problem:
        yield sse.data_frame({"error": error_of(problem.body())})
    finally:
        await end(*tasks)
        await _close(events)


async def _close(events: dict[SteerType, Events]) -> None:
    for one in events.values():
        await one.aclose()


class _News:
    """What comes of several streams: taken as it comes, told when somebody has time to tell it."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._came = asyncio.Event()

    async def follow(self, type_: SteerType, event: dict[str, Any], events: Events) -> None:
        """Take all of a stream, whose first event is there."""
        try:
            while event["event"] == "delta":
                if event["text"] or event.get("logprobs"):
                    self._outputs.texts[type_].add(event["text"], event.get("logprobs"))
                    self._came.set()
                event = _checked(await anext(events, None))
        finally:
            self._came.set()

    async def wait(self, tasks: Sequence[asyncio.Future[None]]) -> bool:
        """Until something is new; False when nothing will be any more. Raises what a stream did."""
        while True:
            done = [task for task in tasks if task.done()]
            for task in done:
                task.result()
            if any(one.new or one.new_logprobs for one in self._outputs.texts.values()):
                return True
            if len(done) == len(tasks):
                return False
            await self._came.wait()
            self._came.clear()
