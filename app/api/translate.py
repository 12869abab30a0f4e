"""Errors in the shape that whoever asks can read, wherever they come from.

The API raises and renders problems (RFC 9457). On the routes of another service's surface, and for people
who look at pages, they are translated here, outside of everything that can refuse a request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE
from app.errors import Problem

_ANYTHING = Problem("Something went wrong in the server; its log says what.")


class Answer(NamedTuple):
    """A problem in another shape."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Surface:
    """Requests whose errors have a shape of their own."""

    claims: Callable[[Scope], bool]
    """Whether a request is one of them."""
    answer: Callable[[Mapping[str, Any]], Answer]
    """What they get, for a problem."""


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
        return next((one for one in self._surfaces if one.claims(scope)), None)


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
        answer = self._surface.answer(problem)
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update(answer.headers)
        headers["Content-Length"] = str(len(answer.body))
        await self._send({**start, "status": answer.status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": answer.body})
