"""ETags: an answer that the caller has already is 304, before the work is done.

Tags are strong. The gzipped and the plain form of a body are different bytes, so they carry
different tags: which of them a caller gets depends on its Accept-Encoding alone, and so does the
tag, which is therefore known before the body is.
"""

import asyncio
from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

VERSION = version("saescope")
"""Part of every tag: another version may word the same evidence differently."""
MANY_VALUES = 2**14
"""More than a feature of ours has; one that was imported may have sixteen times as many."""
_ETAG = {
    "description": "Tag of this answer. With it as `If-None-Match` the same request is answered with "
    "304 as long as nothing has changed.",
    "schema": {"type": "string"},
    "required": True,
}
LOOKUP: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": _ETAG}},
    304: {"description": "Nothing has changed.", "headers": {"ETag": _ETAG}},
}
"""OpenAPI responses of routes that answer with tags."""


def tagged(request: Request, identity: str, make: Callable[[], bytes]) -> Response:
    """JSON from `make`, or 304 without calling it. `identity` says all that the body depends on."""
    tag = _tag(request, identity)
    return _unchanged(request.headers, tag) or _json(make(), tag)


async def tagged_by_size(
    request: Request, identity: str, make: Callable[[], bytes], values: int
) -> Response:
    """As `tagged`, from an event loop: a body of many values is made on a thread, so that no other
    request waits for it."""
    if values > MANY_VALUES:
        return await asyncio.to_thread(tagged, request, identity, make)
    return tagged(request, identity, make)


def tagged_body(request: Request, body: bytes) -> Response:
    """A JSON body that is its own identity, or 304."""
    return tagged(request, blake2b(body).hexdigest(), lambda: body)


def _tag(request: Request, identity: str) -> str:
    asked = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
    whole = f"{VERSION}\n{asked}\n{identity}".encode()
    digest = blake2b(whole, digest_size=12).hexdigest()
    coding = "-gzip" if "gzip" in request.headers.get("accept-encoding", "") else ""
    return f'"{digest}{coding}"'


def _unchanged(headers: Mapping[str, str], tag: str) -> Response | None:
    known = headers.get("if-none-match", "")
    if known.strip() != "*" and tag not in (
        one.strip().removeprefix("W/") for one in known.split(",")
    ):
        return None
    # The gzip middleware adds Vary to bodies; a 304 has none to compress.
    return Response(
        status_code=304,
        headers={"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"},
    )


def _json(body: bytes, tag: str) -> Response:
    return Response(
        body, headers={"ETag": tag, "Cache-Control": "no-cache"}, media_type="application/json"
    )
