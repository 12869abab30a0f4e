"""Which jobs have changed, as Postgres tells it: one connection that listens, for all event streams of a
process. It is opened by the first of them, and again when it was lost.

Whoever waits looks again after a while in any case: often without such a connection (on SQLite, and
while the database is away), seldom with one.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url

from app.store.engine import connecting
from app.store.progress import CHANNEL

POLL_S = 0.5
"""Seconds until whoever waits looks again."""
FALLBACK_S = 5.0
"""The same while changes are told."""
AGAIN_S = 1.0

log = logging.getLogger(__name__)


class News:
    """For the streams of one event loop."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = make_url(url), name
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._told = False

    @contextmanager
    def of(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job has changed, or may have."""
        if self._url.get_backend_name() == "postgresql":
            self._begin()
        changed = asyncio.Event()
        self._waiting[job_id].add(changed)
        try:
            yield changed
        finally:
            self._waiting[job_id].discard(changed)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def wait(self, changed: asyncio.Event) -> None:
        """Until the event was set, or it is time to look again. Clears it."""
        try:
            async with asyncio.timeout(FALLBACK_S if self._told else POLL_S):
                await changed.wait()
        except TimeoutError:
            pass
        changed.clear()

    def _begin(self) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        from psycopg import Error  # not before there is a stream: it takes a tenth of a second

        while True:
            try:
                await self._hear()
            except (Error, OSError) as error:
                log.warning("Changes of jobs are looked for, not told: %s", error)
            finally:
                self._told = False
            await asyncio.sleep(AGAIN_S)

    async def _hear(self) -> None:
        from psycopg import AsyncConnection

        dialect = self._url.get_dialect()()
        _, parameters = dialect.create_connect_args(self._url)
        parameters = {**parameters, **connecting(f"{self._name} listen")}
        async with await AsyncConnection.connect(**parameters, autocommit=True) as connection:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self._told = True
            for job_id in list(self._waiting):  # what happened before was told to nobody
                self._tell(job_id)
            async for one in connection.notifies():
                self._tell(one.payload)

    def _tell(self, job_id: str) -> None:
        for changed in self._waiting.get(job_id, ()):
            changed.set()
