"""Connections that do not come to the point are closed.

uvicorn waits without end for the first request of a connection, and takes a head of any length: a few
thousand silent connections would use up the files that a process may have open. Bodies are bounded
where they are read (`app.api.bodies`), answers where they are asked for; who does not read one is left.
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
        self._reader: asyncio.TimerHandle | None = None
        """Runs while more of an answer waits to be read than is sent ahead."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]  as uvicorn has it
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        self._leave_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._timer is None:
            # uvicorn takes any byte behind an answer for the next request, also those of a body that it
            # has refused, and empty lines.
            if self.cycle is None or self.cycle.response_complete:
                self._wait_for_head()
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            told = b"The first line and the headers may have %d bytes." % MOST_HEAD_BYTES
            self.transport.write(_REFUSAL % (len(told), told))
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._leave_reader()
        super().resume_writing()

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

    def _watch_reader(self, left: int) -> None:
        self._reader = self.loop.call_later(self._patience_s, self._look_at_reader, left)

    def _look_at_reader(self, before: int) -> None:
        """Whoever reads nothing for so long is not waited for; a slow reader is."""
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        else:
            self._watch_reader(left)

    def _leave_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
