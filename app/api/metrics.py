"""Prometheus metrics: requests by route and status, time to the first byte, live work in flight."""

from time import perf_counter

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import documented
from app.api.state import Use
from app.errors import Problem
from app.live import Live

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

router = APIRouter(tags=["service"])


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
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
        self.live_up = self._gauge("live_up", "1 when the live worker answers, else 0.")
        self.live_running = self._gauge("live_running", "Rows that the live worker generates now.")
        self.live_waiting = self._gauge("live_waiting", "Rows that wait for a place in a batch.")
        self.live_requests = self._gauge(
            "live_requests", "Requests of this process that the live worker has not answered yet."
        )

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"saescope_{name}", about, registry=self.registry)

    async def ask(self, live: Live) -> None:
        """Take the live worker's numbers of this moment."""
        self.live_requests.set(live.in_flight)
        try:
            health = await live.health()
        except Problem:
            health = None
        self.live_up.set(health is not None)
        self.live_running.set(health.running if health else 0)
        self.live_waiting.set(health.waiting if health else 0)


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
            route = getattr(scope.get("route"), "path_format", "unknown")
            self.metrics.requests.labels(method, route, status).inc()
            seconds = (first_byte or perf_counter()) - began
            self.metrics.seconds.labels(method, route).observe(seconds)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(),
    },
)
async def get_metrics(request: Request, services: Use) -> Response:
    """Requests by route and status, seconds until the first byte, how busy the live worker is, and
    the memory and CPU of this process, in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    await metrics.ask(services.live)
    text = generate_latest(metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
