"""What a request must satisfy before it is looked at: who it is meant for, who sent it, its body.

Loopback is no boundary: any web page can make a browser send requests here, and a DNS name that
its owner points at 127.0.0.1 makes them same-origin. So the Host must be one of ours, a state
change must not come from a foreign page, and a body must be declared as JSON, which pages can
only do after a CORS preflight.
"""

from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import render
from app.errors import BadRequest, Forbidden, Problem, TooLarge, Unsupported
from app.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guards:
    """Refuses requests with a problem, and reads bodies whole up to the limit."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {host.lower() for host in [*settings.allowed_hosts, settings.bound_host]}
        self.origins = frozenset(settings.cors_origins)
        self.max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            if scope["method"] not in SAFE_METHODS:
                self._check_origin(headers)
                receive = await self._read_body(headers, receive)
        except Problem as problem:
            await render(problem)(scope, receive, send)
        except ClientDisconnect:
            pass  # half a body came, and nobody waits for an answer
        else:
            await self.app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        if "*" in self.hosts:
            return
        given = headers.getlist("host")
        if len(given) == 1 and _hostname(given[0]) in self.hosts:
            return
        raise BadRequest(
            f"This service does not answer for the host {', '.join(given) or '(none)'}; it answers "
            f"for {', '.join(sorted(self.hosts))}. SAESCOPE_ALLOWED_HOSTS adds names."
        )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        else:
            ours = _netloc(origin) == headers.get("host")
            foreign = not ours and not self.origins & {origin, "*"}
        if foreign:
            raise Forbidden(
                f"Pages of {origin or 'another site'} may not change anything here; "
                "SAESCOPE_CORS_ORIGINS lists the origins that may."
            )

    async def _read_body(self, headers: Headers, receive: Receive) -> Receive:
        """A `receive` that gives the whole body at once."""
        length = headers.get("content-length", "")
        if not length.isdecimal() and "transfer-encoding" not in headers:
            return receive
        if length.isdecimal() and int(length) > self.max_body_bytes:
            raise self._too_large()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body_bytes:
                raise self._too_large()
        whole = bytes(body)
        if whole:
            _check_type(headers)
            _check_json(whole)
        return _replay(whole, receive)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The body is larger than {self.max_body_bytes:,} bytes (SAESCOPE_MAX_BODY_BYTES)."
        )


def _hostname(host: str) -> str:
    """The Host header without its port, lower case."""
    name, bracket, _port = host.lower().partition("]")
    return name + bracket if bracket else name.partition(":")[0]


def _netloc(origin: str) -> str | None:
    """Host and port of an origin, None of what is none. Behind a proxy that ends TLS the scheme
    differs; these are what must agree."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


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


def _check_json(body: bytes) -> None:
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
