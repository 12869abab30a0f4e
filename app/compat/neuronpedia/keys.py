"""Who asks: lists and vectors belong to the key that made them.

Any key is taken, and its hash is the owner. That is naming, not protection: there are no accounts here.
"""

import hashlib
from typing import Annotated, Any

from fastapi import Depends, Request

from app.errors import Unauthorized
from app.observe import KEY

HEADER = "x-api-key"
_SHOWN = 16
_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "description": "Any text of your own: lists and vectors belong to it.",
    "schema": {"type": "string"},
    "examples": {"own": {"value": "my-key"}},
}
_NEEDED = {**_PARAMETER, "required": True, "schema": {"type": "string", "minLength": 1}}
# A parameter, not a security scheme: no key is ever refused.
KEYED: dict[str, Any] = {"parameters": [_NEEDED]}
"""What the OpenAPI document says of a route that needs a key."""
KEYED_OR_NOT: dict[str, Any] = {"parameters": [{**_PARAMETER, "required": False}]}
"""The same of one that answers without, too."""


def owner_of(request: Request) -> str | None:
    """Whose key came with a request, if any: where the service has keys, one of its own."""
    key = request.scope.get(KEY) or request.headers.get(HEADER)
    return hashlib.sha256(key.encode()).hexdigest() if key else None


async def _required(request: Request) -> str:
    owner = owner_of(request)
    if owner is None:
        raise Unauthorized(
            f"Send a key of your own choice in the header `{HEADER}`: lists and vectors belong to it."
        )
    return owner


Owner = Annotated[str, Depends(_required)]
"""Whose key it is; without one the answer is 401. The route says `KEYED`."""


def shown(owner: str) -> str:
    """What others see of an owner."""
    return owner[:_SHOWN]
