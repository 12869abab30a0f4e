"""One path with and without a slash at its end, where clients of other services put one."""

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIXES = ("/api/", "/inference/")


class WithoutSlash:
    """Takes one slash from the end of these paths; a redirect would cost another round trip."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            raw: bytes = scope.get("raw_path") or b""
            path = scope["path"].removesuffix("/")
            scope = {**scope, "path": path, "raw_path": raw.removesuffix(b"/")}
        await self.app(scope, receive, send)
