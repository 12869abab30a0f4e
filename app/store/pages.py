"""Lists in pages by keyset: a cursor holds the position of the last item, never an offset.

A cursor is opaque to callers. It names the query that it belongs to, and for evidence the run:
when a newer run has been switched in, positions of the old one mean nothing, and the caller is
told to start again.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from app.errors import BadRequest, Gone, Invalid

MAX_LIMIT = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and the cursor that continues it; None at the end."""

    items: list[T]
    next_cursor: str | None


def check_limit(limit: int) -> int:
    """Refuse a page size that is not served."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"`limit` is {limit}; give a number from 1 to {MAX_LIMIT}.")
    return limit


def all_of(page: Callable[[str | None], Page[T]]) -> list[T]:
    """All items of a list, page by page; `page` gets the cursor of the next one."""
    found = page(None)
    items = found.items
    while found.next_cursor:
        found = page(found.next_cursor)
        items += found.items
    return items


def encode(query: list[Any], position: list[Any], run_id: str | None = None) -> str:
    """The cursor after `position` of a list that `query` describes."""
    packed = orjson.dumps([_digest(query), run_id, position])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(
    cursor: str, query: list[Any], types: tuple[type, ...], run_id: str | None = None
) -> list[Any]:
    """The position in a cursor, of those types. BadRequest for a cursor that was not given out for
    this query, Gone for one of another run."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        digest, run, position = orjson.loads(base64.urlsafe_b64decode(padded))
        right = digest == _digest(query) and tuple(map(type, position)) == types
    except (ValueError, TypeError):
        raise refused() from None
    # Postgres takes no text with a NUL, and no id has one.
    if not right or any("\0" in part for part in position if isinstance(part, str)):
        raise refused()
    if run != run_id:
        raise Gone("Newer evidence has replaced this list; start again without `cursor`.")
    return position


def refused() -> BadRequest:
    """The problem with a cursor that no list made."""
    return BadRequest(
        "`cursor` was not given out for this list; keep the other parameters as they were, or "
        "start without it."
    )


def _digest(query: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(query)).hexdigest()[:12]
