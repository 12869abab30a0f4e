"""Bodies of requests, read whole and within limits, of those whose key was found to be right.

A body must be declared as JSON, which web pages of others can only do after a CORS preflight.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.guards import SAFE_METHODS
from app.api.problems import render
from app.api.scopes import needed
from app.errors import BadRequest, Problem, TooLarge, TooMany, TooSlow, Unsupported
from app.settings import Settings

HELD = 16
"""Bodies of the largest size that are in memory at a time."""
STRANGERS_BYTES = 4_096
"""Of a body that comes to a path which needs no key."""
MOST_PARTS = 2**17
"""Commas and brackets of a body: each may be a value of its own, which takes far more than its bytes, and
as many sentences when it is wrong."""
AGAIN_S = 1


class Bodies:
    """Reads every body before the route is asked, and counts the bytes of all that are not done."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._most_bytes = settings.max_body_bytes
        self._patience_s = settings.read_timeout_s
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        most = self._most_bytes
        if needed(scope["method"], scope["path"]) is None:  # no key was asked for
            most = min(most, STRANGERS_BYTES)
        with self._held() as body:
            try:
                receive = await self._whole(Headers(scope=scope), receive, body, most)
            except Problem as problem:
                await render(problem)(scope, receive, send)
            except ClientDisconnect:  # half a body came, and nobody waits for an answer
                await Response(status_code=499)(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    @contextmanager
    def _held(self) -> Iterator[bytearray]:
        """A body, whose bytes count until its request is over."""
        body = bytearray()
        try:
            yield body
        finally:
            self._held_bytes -= len(body)

    async def _whole(
        self, headers: Headers, receive: Receive, body: bytearray, most: int
    ) -> Receive:
        """A `receive` that gives the whole body at once."""
        length = headers.get("content-length", "")
        if not length.isdecimal() and "transfer-encoding" not in headers:
            return receive
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._read(receive, body, most)
        except TimeoutError:
            raise TooSlow(
                f"The body did not come whole within {self._patience_s:g} s "
                "(SAESCOPE_READ_TIMEOUT_S)."
            ) from None
        if body:
            _check_type(headers)
            _check_json(body)
        return _replay(bytes(body), receive)

    async def _read(self, receive: Receive, body: bytearray, most: int) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._take(message.get("body", b""), body, most)
            more = message.get("more_body", False)

    def _take(self, data: bytes, body: bytearray, most: int) -> None:
        if len(body) + len(data) > most:
            raise _too_large(most)
        if self._held_bytes + len(data) > HELD * self._most_bytes:
            raise TooMany(
                "The bodies of all requests of this moment are as large as they may be together "
                f"({HELD} times SAESCOPE_MAX_BODY_BYTES). Ask again later.",
                AGAIN_S,
            )
        self._held_bytes += len(data)
        body += data


def _too_large(most: int) -> TooLarge:
    limit = "where no key is asked for" if most == STRANGERS_BYTES else "SAESCOPE_MAX_BODY_BYTES"
    return TooLarge(f"The body is larger than {most:,} bytes ({limit}).")


def _check_type(headers: Headers) -> None:
    given = headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise Unsupported(
            "Send the body as JSON, with the header `Content-Type: application/json`"
            + (f", not {given!r}." if given else ".")
        )
    coding = headers.get("content-encoding", "identity")
    if coding != "identity":
        raise Unsupported(f"The body is encoded as {coding}; send it as it is.")


def _check_json(body: bytearray) -> None:
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise TooLarge(
            f"The body has more than {MOST_PARTS:,} commas and brackets; send less at once."
        )
    # Python's own parser takes NaN and half surrogates, which nothing behind it can write again.
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
