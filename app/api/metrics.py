"""Prometheus metrics: requests by route and status, time to the first byte, live work in flight."""

from collections.abc import Callable
from time import perf_counter

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

router = APIRouter(tags=["service"])


class Metrics:
    """The metrics of one application."""

    def __init__(self, live_in_flight: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route")
        self.requests = Counter(
            "saescope_requests",
            "HTTP requests answered, by route template and status.",
            (*labels, "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "saescope_request_seconds",
            "Seconds until the first byte of the answer.",
            labels,
            buckets=BUCKETS,
            registry=self.registry,
        )
        Gauge(
            "saescope_live_requests",
            "Requests that wait for the live worker or are being answered by it.",
            registry=self.registry,
        ).set_function(live_in_flight)


class Observe:
    """Counts and times every request of the application below it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, first_byte = perf_counter(), 500, None

        async def observed(message: Message) -> None:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status, first_byte = message["status"], perf_counter()
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.requests.labels(method, route, status).inc()
            seconds = (first_byte or perf_counter()) - began
            self.metrics.seconds.labels(method, route).observe(seconds)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Requests by route and status, a latency histogram, requests at the live worker, and the
    memory and CPU of this process, in Prometheus' text format."""
    text = generate_latest(request.app.state.metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
