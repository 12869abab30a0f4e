"""Around everything else of a server: every request has an id, is counted, logged, and traced where
traces are on. For the API and the live worker.

A line has the template of the route, never the path or the query: there are texts in them.
"""

import logging
import re
import secrets
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import traces
from app.logs import REQUEST_ID

HEADER = "X-Request-Id"
_NAME = HEADER.lower().encode()
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/health"})
"""Asked every few seconds, they have a line only when something is wrong."""
KEY = "saescope.key"
"""In a scope: the id of the key that was sent."""
_log = logging.getLogger("saescope.requests")


class Seen(NamedTuple):
    """A request that was answered."""

    method: str
    route: str
    """Its template; `unknown` when there is none."""
    status: int
    first_byte_s: float


class Observe:
    """Tells `count` of every request of the application below it."""

    def __init__(self, app: ASGIApp, count: Callable[[Seen], None], logs: bool) -> None:
        """With `logs`, each has a line of the log."""
        self.app = app
        self._count = count
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _id_of(scope)
        # Never taken back: every request is a task of its own, and what comes behind this has it too.
        REQUEST_ID.set(request_id.decode())
        began, status, first_byte = perf_counter(), 500, None

        async def observed(message: Message) -> None:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status, first_byte = message["status"], perf_counter()
                message = {**message, "headers": [*message.get("headers", ()), (_NAME, request_id)]}
            await send(message)

        with traces.serving(scope) as span:
            try:
                await self.app(scope, receive, observed)
            finally:
                ended = perf_counter()
                seen = Seen(_method(scope), _route(scope), status, (first_byte or ended) - began)
                self._count(seen)
                if span is not None:
                    traces.answered(span, seen.method, seen.route, status)
                if self._logs and not (seen.route in PROBES and status == 200):
                    self._line(seen, ended - began, scope.get(KEY))

    def _line(self, seen: Seen, seconds: float, key: str | None) -> None:
        fields = {
            "method": seen.method,
            "route": seen.route,
            "status": seen.status,
            "ms": round(seconds * 1e3, 1),
        }
        if key:
            fields["key"] = key
        if trace_id := traces.trace_id():
            fields["trace_id"] = trace_id
        _log.info("answered", extra={"fields": fields})


def _id_of(scope: Scope) -> bytes:
    """What the caller sent, if it is short and plain; otherwise a new one."""
    for name, value in scope["headers"]:
        if name == _NAME and _WELL_FORMED.fullmatch(value):
            return value
    return secrets.token_hex(8).encode()


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path_format", "unknown")
