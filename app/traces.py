"""Traces by OpenTelemetry, of the API and the live worker; where no collector is named, nothing of it is
imported and all of this does nothing.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) turns them on; the other variables of the SDK
hold as it documents them. Spans have no texts: neither paths and queries nor messages of exceptions.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from starlette.types import Scope

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Attributes = Mapping[str, str | int | float]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CLOSE_S = 2.0
"""Seconds that the last spans have to be sent in."""
_log = logging.getLogger(__name__)
_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def set_up(process: str) -> None:
    """Send traces of this process, if a collector is named and the packages are there."""
    global _provider, _tracer
    named = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if named is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        _log.warning(
            "%s is set, but no traces are sent: the package %s is not installed. Install "
            "saescope[otel], or unset it.",
            named, error.name,
        )  # fmt: skip
        return
    os.environ.setdefault("OTEL_SERVICE_NAME", f"saescope-{process}")
    _provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("saescope")


def close() -> None:
    """Send what is left, if the collector takes it soon."""
    if _provider is not None:
        last = threading.Thread(target=_provider.shutdown, daemon=True)
        last.start()
        last.join(CLOSE_S)


def serving(scope: Scope) -> "AbstractContextManager[Span | None]":
    """The span of a request that came, as part of the caller's trace if it names one."""
    return nullcontext() if _tracer is None else _serving(_tracer, scope)


@contextmanager
def _serving(tracer: "Tracer", scope: Scope) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    with tracer.start_as_current_span(
        scope["method"],
        TraceContextTextMapPropagator().extract(headers),
        SpanKind.SERVER,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def answered(span: "Span", method: str, route: str, status: int) -> None:
    """Say how a request ended."""
    from opentelemetry.trace import StatusCode

    span.update_name(f"{method} {route}")
    span.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    )
    if status >= 500:
        span.set_status(StatusCode.ERROR)


@contextmanager
def calling(name: str) -> Iterator[dict[str, str]]:
    """The span of a request to another process; gives the headers that carry it there."""
    if _tracer is None:
        yield {}
        return
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Not made the current one: a stream may be closed by another task than began it.
    span = _tracer.start_span(name, kind=SpanKind.CLIENT)
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, set_span_in_context(span))
    try:
        yield headers
    except Exception as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


def past(name: str, began: float, ended: float, attributes: Attributes | None = None) -> None:
    """A span of the current request between two moments of `time.monotonic`."""
    if _tracer is None:
        return
    offset_ns = time.time_ns() - time.monotonic_ns()
    span = _tracer.start_span(
        name, attributes=attributes, start_time=offset_ns + round(began * 1e9)
    )
    span.end(offset_ns + round(ended * 1e9))


def trace_id() -> str:
    """Of the request that is being answered; empty without traces."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import format_trace_id, get_current_span

    return format_trace_id(get_current_span().get_span_context().trace_id)
