"""Who asks: lists and vectors belong to the key that made them.

Any key is taken, and its hash is the owner. That is naming, not protection: there are no accounts here.
"""

import hashlib
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from app.errors import Unauthorized

HEADER = "x-api-key"
_SHOWN = 16
_SCHEME = APIKeyHeader(
    name=HEADER,
    scheme_name="key",
    auto_error=False,
    description="Any text of your own: lists and vectors belong to it.",
)


def owner_of(request: Request) -> str | None:
    """Whose key came with a request, if any."""
    key = request.headers.get(HEADER)
    return hashlib.sha256(key.encode()).hexdigest() if key else None


async def _required(request: Request, _key: Annotated[str | None, Security(_SCHEME)]) -> str:
    owner = owner_of(request)
    if owner is None:
        raise Unauthorized(
            f"Send a key of your own choice in the header `{HEADER}`: lists and vectors belong to it."
        )
    return owner


Owner = Annotated[str, Depends(_required)]
"""Whose key it is; without one the answer is 401."""


def shown(owner: str) -> str:
    """What others see of an owner."""
    return owner[:_SHOWN]
