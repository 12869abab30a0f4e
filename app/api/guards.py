"""What a request must satisfy before it is looked at: who it is meant for, and which page sent it.

Loopback is no boundary: any web page can make a browser send requests here, and a DNS name that
its owner points at 127.0.0.1 makes them same-origin. So the Host must be one of ours, a state
change must not come from a foreign page, and a body must be declared as JSON, which pages can
only do after a CORS preflight.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import render
from app.errors import BadRequest, Forbidden, Problem
from app.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guards:
    """Refuses requests with a problem."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {host.lower() for host in [*settings.allowed_hosts, settings.bound_host]}
        self.origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            if scope["method"] not in SAFE_METHODS:
                self._check_origin(headers)
        except Problem as problem:
            await render(problem)(scope, receive, send)
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
