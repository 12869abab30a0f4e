"""HEAD for every GET: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Runs a HEAD request as GET and drops the body; a stream ends after its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                # Once the response is complete, `receive` says so, and a stream stops.
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # The server keeps its own scope: it must go on seeing HEAD.
        await self.app({**scope, "method": "GET"}, receive, without_body)
