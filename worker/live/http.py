"""HTTP of the live worker: who is answered, how requests are read and answers are sent.

A request whose client goes away is cancelled at once, and with it the rows that it runs.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadRequest, Invalid, Problem, TooMany
from worker.live import meters
from worker.live.budget import Budget
from worker.memory import lacked_memory, no_memory

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class ClientGone(Exception):
    """The connection closed before the answer."""


class Bounded:
    """Takes on so many requests at a time; one is over when its answer has gone out."""

    def __init__(self, app: ASGIApp, budget: Budget) -> None:
        self.app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say that it is too many; how the worker is may always be asked."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            with self._budget.holding(1):
                await self.app(scope, receive, send)
        except TooMany as problem:
            await _problem(problem)(scope, receive, send)


class EventStream(Response):
    """Events as lines of JSON, ended together with the connection."""

    media_type = "application/x-ndjson"

    def __init__(self, events: AsyncGenerator[dict[str, Any]]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        with suppress(ClientGone):
            await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with aclosing(self._events) as events:
            async for event in events:
                line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, or cancel it as soon as the client is gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def guarded(handler: Handler, token: str) -> Handler:
    """Let only who holds the token in; render problems."""
    expected = f"Bearer {token}".encode()

    async def answer(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, expected):
            return Response("The shared token is missing or wrong.", status_code=401)
        try:
            return await handler(request)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=499)
        except Problem as problem:
            return _problem(problem)
        except Exception as error:
            meters.failed("request")
            log.exception("%s failed", request.url.path)
            if lacked_memory(error):
                return _problem(no_memory())
            return _problem(Problem(f"The live worker failed: {type(error).__name__}: {error}"))

    return answer


async def parse(request: Request, model: type[M]) -> M:
    """The body of a request."""
    body = await request.body()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        if first["type"] == "json_invalid":
            raise BadRequest(f"The body is not JSON: {first['msg']}.") from error
        raise Invalid(f"{where}: {first['msg']}.") from error


def answering(model: type[M], answer: Callable[[M], Coroutine[Any, Any, bytes]]) -> Handler:
    """The handler of requests of a form, whose answers are JSON and take a while."""

    async def handle(request: Request) -> Response:
        body = await parse(request, model)
        return raw(await while_connected(request.receive, answer(body)))

    return handle


def as_json(content: dict[str, Any]) -> Response:
    """An answer from plain objects."""
    return raw(orjson.dumps(content))


def raw(content: bytes) -> Response:
    """An answer from JSON."""
    return Response(content, media_type="application/json")


def _problem(problem: Problem) -> Response:
    meters.refused(problem)
    return Response(
        orjson.dumps(problem.body()), problem.status, media_type="application/problem+json"
    )
