"""Stop work that nobody waits for any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from anyio import CancelScope
from starlette.requests import Request

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before there was an answer."""


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. When the client goes away first, `work` is cancelled, and
    `ClientGone` raised. The request's body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await end(task, gone)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have cleaned up.

    Starlette cancels a response again and again until it has ended. The shield keeps that from the
    tasks, which would never come to close their connections.
    """
    for task in tasks:
        task.cancel()
    with CancelScope(shield=True):
        await asyncio.wait(tasks)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
