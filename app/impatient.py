"""Connections that do not come to the point are closed.

uvicorn waits without end for the first request of a connection, and takes a head of any length: a few
thousand silent connections would use up the files that a process may have open. Bodies are bounded
where they are read (`app.api.bodies`), answers where they are asked for.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 2**16
"""Of the first line and the headers of a request. Browsers and proxies send a few kB."""
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b"
)


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol, with a time and a size in which the head of a request must have come."""

    def __init__(self, *args: Any, patience_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None
        """Runs while a head is waited for; never while an answer is made or sent."""
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]  as uvicorn has it
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            told = b"The first line and the headers may have %d bytes." % MOST_HEAD_BYTES
            self.transport.write(_REFUSAL % (len(told), told))
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._patience_s, self._give_up)

    def _have_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._head_bytes = None, 0

    def _give_up(self) -> None:
        self.transport.close()
