"""What each request needs: a key that may read, infer, or do everything.

Reading is looking up what is there. What runs a model, or keeps something of the asker's own, is
inference. Everything else that is not a GET changes what others see, and needs `admin`: so does
every route that is not named here.
"""

import re

from app.keys import Scope

OPEN = re.compile(r"/(healthz|readyz|login|logout|static/.*|inference/health)")
"""Paths that need no key: probes ask without, and who signs in has none yet."""
_INFER = re.compile(
    r"/v1/(activations|features/search|steer|steer/sweep|steer/calibrate|completions|chat/completions)"
    r"|/models/[^/]+/saes/[^/]+/features/[^/]+/try"
    r"|/(api|inference)/.*"
)
_SAFE = ("GET", "HEAD", "OPTIONS")


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None where everyone may ask."""
    path = path.rstrip("/") or "/"
    if OPEN.fullmatch(path):
        return None
    if method in _SAFE:
        return "infer" if path == "/text" else "read"
    return "infer" if _INFER.fullmatch(path) else "admin"
