"""Errors in the shape of the service whose clients ask, wherever they come from.

The API raises and renders problems (RFC 9457). On the routes of another service's surface they are
translated here, outside of everything that can refuse a request. What cannot be processed (422) is 400
there, as those services' clients know it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE
from app.errors import Problem

_ANYTHING = Problem("Something went wrong in the server; its log says what.")


@dataclass(frozen=True)
class Surface:
    """Another service's routes."""

    claims: Callable[[str], bool]
    """Whether a path is one of them."""
    error: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The body that its clients know, for a problem."""


class Translate:
    """Translates the problems of each surface."""

    def __init__(self, app: ASGIApp, surfaces: tuple[Surface, ...]) -> None:
        self.app = app
        self._surfaces = surfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        surface = self._surface_of(scope)
        if surface is None:
            await self.app(scope, receive, send)
            return
        translated = _Translated(send, surface)
        try:
            await self.app(scope, receive, translated)
        except Exception:
            # Raised again for the server's log; whoever catches it finds the answer begun.
            await translated.fail()
            raise

    def _surface_of(self, scope: Scope) -> Surface | None:
        if scope["type"] != "http":
            return None
        return next((one for one in self._surfaces if one.claims(scope["path"])), None)


class _Translated:
    """A `send` that holds a problem back until it is whole, and sends an error in its place."""

    def __init__(self, send: Send, surface: Surface) -> None:
        self._send = send
        self._surface = surface
        self._begun = False
        self._held: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            if Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                self._held = message
                return
        if self._held is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._error(self._held, orjson.loads(self._body))

    async def fail(self) -> None:
        """Say that something went wrong, if nothing was said yet."""
        if not self._begun:
            await self._error({"type": "http.response.start", "headers": []}, _ANYTHING.body())

    async def _error(self, start: Message, problem: Mapping[str, Any]) -> None:
        self._begun = True
        body = orjson.dumps(self._surface.error(problem))
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
        status = 400 if problem["status"] == 422 else problem["status"]
        await self._send({**start, "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def sentences(problem: Mapping[str, Any]) -> str:
    """All that is wrong with a request, in the order in which it was found."""
    errors = problem.get("errors") or []
    message = " ".join(map(_sentence, errors)) if len(errors) > 1 else problem["detail"]
    return message.removeprefix("body.")


def _sentence(error: Mapping[str, str]) -> str:
    allowed = f"; allowed: {error['allowed']}" if error.get("allowed") else ""
    return f"{error['where'].removeprefix('body.')}: {error['what']}{allowed}."
