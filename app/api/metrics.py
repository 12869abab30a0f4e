"""Prometheus metrics: requests by route and status, time to the first byte, jobs, live work in flight."""

import asyncio
import math

from fastapi import APIRouter, Request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from app.api.problems import documented
from app.api.state import Services, Use
from app.errors import Problem
from app.job_counts import JobCounts
from app.live import Live
from app.observe import Seen

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

disable_created_metrics()
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
        self.jobs = Gauge(
            "saescope_jobs", "Jobs by kind and state.", ("kind", "state"), registry=self.registry
        )
        self.oldest = self._gauge(
            "jobs_oldest_queued_seconds",
            "How long the job that was queued first waits; 0 when none does.",
        )
        self.streams = self._gauge("event_streams", "Event streams that are open.")

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"saescope_{name}", about, registry=self.registry)

    def count(self, seen: Seen) -> None:
        """Take note of a request."""
        self.requests.labels(seen.method, seen.route, seen.status).inc()
        self.seconds.labels(seen.method, seen.route).observe(seen.first_byte_s)

    async def ask(self, services: Services) -> None:
        """Take the numbers of this moment."""
        self.streams.set(services.streams.n_open)
        await asyncio.gather(self._ask_live(services.live), self._ask_jobs(services.job_counts))

    async def _ask_jobs(self, counts: JobCounts) -> None:
        """Where they cannot be counted, there are none of these metrics, and no age."""
        told = await counts.now()
        self.jobs.clear()
        self.oldest.set(math.nan if told is None else told.oldest_queued_s)
        for (kind, state), n in told.jobs.items() if told else ():
            self.jobs.labels(kind, state).set(n)

    async def _ask_live(self, live: Live) -> None:
        self.live_requests.set(live.in_flight)
        try:
            health = await live.health()
        except Problem:
            health = None
        self.live_up.set(health is not None)
        self.live_running.set(health.running if health else 0)
        self.live_waiting.set(health.waiting if health else 0)


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
    """Requests by route and status, seconds until the first byte, open event streams, jobs by kind and
    state, how busy the live worker is, and the memory and CPU of this process, in Prometheus' text
    format."""
    metrics: Metrics = request.app.state.metrics
    await metrics.ask(services)
    text = generate_latest(metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
