"""HTTP of the live worker: the routes of `app.contract.live`, for who holds the shared token.

A request whose client goes away is cancelled at once, and with it the rows that it runs.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.contract.complete import CompleteRequest
from app.contract.live import ActivationsRequest, SteerRequest, SweepRequest, TokenizeRequest
from app.contract.search import SearchRequest
from app.errors import BadRequest, Invalid, Problem
from worker.live.service import LiveService

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


def create_server(service: LiveService, token: str) -> Starlette:
    """The application; starts the service with its event loop and stops it at the end."""
    routes = Routes(service)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        service.start()
        await service.warm_up()
        yield
        await asyncio.to_thread(service.stop)

    return Starlette(
        routes=[
            Route(path, _guarded(handler, token), methods=[method])
            for method, path, handler in (
                ("GET", "/health", routes.health),
                ("POST", "/tokenize", routes.tokenize),
                ("POST", "/activations", routes.activations),
                ("POST", "/steer", routes.steer),
                ("POST", "/sweep", routes.sweep),
                ("POST", "/complete", routes.complete),
                ("POST", "/search", routes.search),
            )
        ],
        lifespan=lifespan,
    )


class Routes:
    """The handlers."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    async def health(self, _request: Request) -> Response:
        """Answers at any load: it asks nothing of the model thread."""
        return _json(self._service.health().model_dump())

    async def tokenize(self, request: Request) -> Response:
        """Token ids of a text."""
        answer = await self._service.tokenize(await _parse(request, TokenizeRequest))
        return _json(answer.model_dump())

    async def activations(self, request: Request) -> Response:
        """Activations of texts."""
        body = await _parse(request, ActivationsRequest)
        return _raw(await _while_connected(request.receive, self._service.activations(body)))

    async def steer(self, request: Request) -> Response:
        """Steered text, whole or as a stream."""
        body = await _parse(request, SteerRequest)
        held, generation = await self._service.prepare(body)
        if body.stream:
            return EventStream(self._service.events(held, generation))
        answer = self._service.answer(held, generation)
        return _json(await _while_connected(request.receive, answer))

    async def sweep(self, request: Request) -> Response:
        """Answers to one prompt under several strengths."""
        body = await _parse(request, SweepRequest)
        return _raw(await _while_connected(request.receive, self._service.sweep(body)))

    async def complete(self, request: Request) -> Response:
        """Choices for prompts, whole or as a stream."""
        body = await _parse(request, CompleteRequest)
        held, generation = await self._service.prepare_complete(body)
        if body.stream:
            return EventStream(self._service.complete_events(held, generation, body))
        answer = self._service.complete(held, generation, body)
        return _raw(await _while_connected(request.receive, answer))

    async def search(self, request: Request) -> Response:
        """Features found by a text, a contrast or a vector."""
        body = await _parse(request, SearchRequest)
        return _raw(await _while_connected(request.receive, self._service.search(body)))


class ClientGone(Exception):
    """The connection closed before the answer."""


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
            await _while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with aclosing(self._events) as events:
            async for event in events:
                line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
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


def _guarded(handler: Handler, token: str) -> Handler:
    """Let only who holds the token in; render problems."""
    expected = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Response:
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
            log.exception("%s failed", request.url.path)
            return _problem(Problem(f"The live worker failed: {type(error).__name__}: {error}"))

    return guarded


async def _parse(request: Request, model: type[M]) -> M:
    body = await request.body()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        if first["type"] == "json_invalid":
            raise BadRequest(f"The body is not JSON: {first['msg']}.") from error
        raise Invalid(f"{where}: {first['msg']}.") from error


def _json(content: dict[str, Any]) -> Response:
    return _raw(orjson.dumps(content))


def _raw(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _problem(problem: Problem) -> Response:
    return Response(
        orjson.dumps(problem.body()), problem.status, media_type="application/problem+json"
    )
