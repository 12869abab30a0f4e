"""The routes of the live worker, for who holds the shared token."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app import traces
from app.contract.complete import CompleteRequest
from app.contract.live import ActivationsRequest, SteerRequest, SweepRequest, TokenizeRequest
from app.contract.search import SearchRequest
from app.observe import Observe
from worker.live import meters
from worker.live.exposed import exposed
from worker.live.http import (
    Bounded,
    EventStream,
    Handler,
    answering,
    as_json,
    guarded,
    parse,
    raw,
    while_connected,
)
from worker.live.reading.routes import READINGS
from worker.live.search.searches import search
from worker.live.service import LiveService


def create_server(service: LiveService, token: str) -> Starlette:
    """The application; starts the service with its event loop and stops it at the end."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        service.start()
        await service.warm_up()
        yield
        await asyncio.to_thread(service.stop)
        await asyncio.to_thread(traces.close)

    routes = Routes(service)
    posts = routes.posts() | {
        path: answering(model, partial(answer, service.desk))
        for path, (model, answer) in READINGS.items()
    }
    return Starlette(
        routes=[
            Route("/health", guarded(routes.health, token), methods=["GET"]),
            Route("/metrics", guarded(routes.metrics, token), methods=["GET"]),
            *(Route(path, guarded(one, token), methods=["POST"]) for path, one in posts.items()),
        ],
        middleware=[
            Middleware(Observe, count=meters.answered, logs=service.desk.settings.log_requests),
            Middleware(Bounded, budget=service.desk.requests),
        ],
        lifespan=lifespan,
    )


class Routes:
    """The handlers of `app.contract.live`."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    def posts(self) -> dict[str, Handler]:
        """By path."""
        service = self._service
        return {
            "/tokenize": answering(TokenizeRequest, service.tokenize),
            "/activations": answering(ActivationsRequest, service.activations),
            "/steer": self.steer,
            "/sweep": answering(SweepRequest, service.sweep),
            "/complete": self.complete,
            "/search": answering(SearchRequest, partial(search, service.desk)),
        }

    async def health(self, _request: Request) -> Response:
        """Answers at any load: it asks nothing of the model thread."""
        return as_json(self._service.health().model_dump())

    async def metrics(self, _request: Request) -> Response:
        """For Prometheus, at any load."""
        text = exposed(self._service.desk)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def steer(self, request: Request) -> Response:
        """Steered text, whole or as a stream."""
        body = await parse(request, SteerRequest)
        held, generation = await self._service.prepare(body)
        if body.stream:
            return EventStream(self._service.events(held, generation))
        answer = self._service.answer(held, generation)
        return as_json(await while_connected(request.receive, answer))

    async def complete(self, request: Request) -> Response:
        """Choices for prompts, whole or as a stream."""
        body = await parse(request, CompleteRequest)
        held, generation = await self._service.prepare_complete(body)
        if body.stream:
            return EventStream(self._service.complete_events(held, generation, body))
        answer = self._service.complete(held, generation, body)
        return raw(await while_connected(request.receive, answer))
