"""Who may ask: with SAESCOPE_INFERENCE_SECRET set, who sends it as X-SECRET-KEY."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import render
from app.compat.inference.base import PREFIX
from app.errors import Unauthorized

HEALTH = f"{PREFIX}/health"


class Secret:
    """Refuses requests to the inference server that do not hold the secret, before they are read."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self.app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may(scope):
            refused = Unauthorized("The header X-SECRET-KEY is missing or wrong.")
            await render(refused)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if not path.startswith(f"{PREFIX}/") or path == HEALTH:
            return True
        given = Headers(scope=scope).get("x-secret-key", "")
        return hmac.compare_digest(given.encode("latin-1"), self._secret)
