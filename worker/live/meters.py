"""What the live worker counts and times of its own work, where it is done, each by a line."""

import time
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from app import traces
from app.errors import PROBLEMS, Problem
from app.observe import Seen
from worker.live.answer import Generation

Where = Literal["prefill", "forward", "capture", "encode", "edit", "turn", "request"]
disable_created_metrics()
REGISTRY = CollectorRegistry()
PREFIX = "saescope_live_"
_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 120),
)


def _counter(name: str, about: str, *labels: str) -> Counter:
    return Counter(PREFIX + name, about, labels, registry=REGISTRY)


def _histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(PREFIX + name, about, labels, buckets=buckets, registry=REGISTRY)


ProcessCollector(registry=REGISTRY)
_requests = _counter("http_requests", "Requests answered, by route and status.", "route", "status")
_problems = _counter("problems", "Requests refused or failed, by kind of problem.", "kind")
_failures = _counter("failures", "Errors that nobody expected, by where they happened.", "where")
_tokens = _counter("tokens", "Tokens of prompts, generated, and captured.", "kind")
_phases = _histogram(
    "phase_seconds",
    "Seconds: of a request until it joins a batch (waiting), of a prefill or decode step, of a "
    "batch's forward (capture) and its readings (encode), of a turn at the desk, of a load.",
    _SECONDS,
    "phase",
)
WAITING, PREFILL, DECODE, CAPTURE, ENCODE, DESK, LOAD = (
    _phases.labels(phase)
    for phase in ("waiting", "prefill", "decode", "capture", "encode", "desk", "load")
)
DECODE_ROWS = _histogram("decode_rows", "Rows of a decode step.", (1, 2, 4, 8, 16, 32, 64, 128))
CAPTURE_TEXTS = _histogram(
    "capture_texts", "Texts of a capture batch.", (1, 2, 4, 8, 16, 32, 64, 128)
)
CAPTURE_TOKENS = _histogram(
    "capture_tokens", "Tokens of a capture batch.", (16, 64, 256, 512, 1024, 2048, 4096, 16384)
)
PROMPT, GENERATED, CAPTURED = (_tokens.labels(kind) for kind in ("prompt", "generated", "captured"))


# From 0 on: the first of them would otherwise be no increase.
for _kind in PROBLEMS:
    _problems.labels(_kind)
for _where in get_args(Where):
    _failures.labels(_where)


def answered(seen: Seen) -> None:
    """Count a request."""
    _requests.labels(seen.route, seen.status).inc()


def refused(problem: Problem) -> None:
    """Count a request that gets a problem for an answer."""
    _problems.labels(problem.slug).inc()


def failed(where: Where) -> None:
    """Count an error that nobody expected."""
    _failures.labels(where).inc()


def ended(generation: Generation) -> None:
    """Take note of what a generation waited for, and trace its parts."""
    end = generation.ended or time.monotonic()
    joined, first = generation.joined, generation.first_token
    WAITING.observe((joined or end) - generation.submitted)
    traces.past("waiting", generation.submitted, joined or end)
    if joined is not None:
        rows = {"rows": len(generation.answers)}
        traces.past("prefill", joined, first or end, rows)
        if first is not None:
            tokens = sum(len(answer.tokens) for answer in generation.answers)
            traces.past("decode", first, end, {**rows, "tokens": tokens})


def captured(submitted: float, began: float | None) -> None:
    """Take note of what a capture waited for, and trace its parts; it has just ended."""
    end = time.monotonic()
    WAITING.observe((began or end) - submitted)
    traces.past("waiting", submitted, began or end)
    if began is not None:
        traces.past("capture", began, end)
