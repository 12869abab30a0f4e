"""What a key is: `saescope_{id}_{secret}`, shown once when it is made; kept are its id and a digest.

A digest, not a slow password hash: the secret is 256 random bits, which nobody guesses, and it is
looked at in every request.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Scope = Literal["read", "infer", "admin"]
"""What a key may do, each more than the one before: look up what is there; ask models; submit jobs and
delete."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "saescope"
_NOBODY = bytes(32)


@dataclass(frozen=True)
class Key:
    """A key as it is kept."""

    id: str
    name: str
    scope: Scope
    digest: bytes
    """sha256 of the secret."""
    per_minute: int | None
    """Requests of a minute, of each API process; None is as many as come."""
    per_day: int | None
    """Requests of a day (UTC), of all API processes."""
    created_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Whether its scope is as large."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


def new_id() -> str:
    """An id that was not there."""
    return secrets.token_hex(6)


def new_secret() -> str:
    """256 random bits, as text."""
    return secrets.token_hex(32)


def written(id: str, secret: str) -> str:
    """A key as people send it."""
    return f"{_PREFIX}_{id}_{secret}"


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def split(text: str) -> tuple[str, str] | None:
    """Id and secret of a key as it was sent; None when it is none."""
    parts = text.split("_")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == _PREFIX else None


def matches(key: Key | None, secret: str) -> bool:
    """Whether a secret is the key's; takes as long where there is no such key."""
    known = key.digest if key else _NOBODY
    return hmac.compare_digest(digest(secret), known) and key is not None


def csrf_token(key: str) -> str:
    """What a page must send along with a key that the browser sends by itself, and what no other
    site can know."""
    return hmac.new(key.encode(), b"csrf", hashlib.sha256).hexdigest()
