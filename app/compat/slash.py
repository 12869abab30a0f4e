"""Paths of other services with slashes at their end, which some of their clients send, are answered like
those without: a redirect would cost a round trip, and some clients drop the body on it."""

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIXES = ("/api/", "/inference/")


class Slash:
    """Takes the slashes away in front of the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _ends_with_slash(scope["path"]):
            raw = scope.get("raw_path")
            path = scope["path"].rstrip("/")
            scope = {**scope, "path": path, "raw_path": raw and raw.rstrip(b"/")}
        await self.app(scope, receive, send)


def _ends_with_slash(path: str) -> bool:
    return (
        path.endswith("/") and path.startswith(PREFIXES) and path.rstrip("/") + "/" not in PREFIXES
    )
