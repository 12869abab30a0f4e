"""The secret that the API and the live worker share, in a file that only their user can read.

Loopback alone is no boundary: a web page or another user of the machine can reach it too.
"""

import contextlib
import os
import secrets

from app.errors import Problem
from app.settings import Settings


def shared_token(settings: Settings) -> str:
    """The token in `settings.token_file`, which is made by whoever comes first.

    It is written under another name and then linked, so that nobody reads half of it.
    """
    path = settings.token_file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    token = path.read_text(encoding="ascii").strip()
    if not token:
        raise Problem(f"{path} is empty; delete it and start again, and a new token is made.")
    return token
