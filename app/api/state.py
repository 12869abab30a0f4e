"""What the handlers work with, made at start and closed at the end."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from app.api.keyring import Keyring
from app.api.sse import Streams
from app.job_counts import JobCounts
from app.live import Live
from app.rows.found import Finder
from app.rows.releases import Releases
from app.settings import Settings
from app.store.engine import Shelf
from app.store.lookup import Lookups

if TYPE_CHECKING:
    from app.jobs import Jobs


@dataclass
class Services:
    """The settings and the three things behind the API: shelf, live worker, jobs."""

    settings: Settings
    shelf: Shelf
    live: Live
    streams: Streams = field(init=False)
    lookups: Lookups = field(init=False)
    finder: Finder = field(init=False)
    releases: Releases = field(init=False)
    keyring: Keyring = field(init=False)
    job_counts: JobCounts = field(init=False)
    _jobs: "Jobs | None" = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.lookups = Lookups(self.shelf)
        self.finder = Finder(self.shelf, self.lookups)
        self.releases = Releases(self.shelf)
        self.keyring = Keyring(self.shelf)
        self.streams = Streams(self.settings.max_streams, self.keyring.knows)
        self.job_counts = JobCounts(self.settings.jobs_url)

    async def jobs(self) -> "Jobs":
        """The jobs client, opened by the first call: importing DBOS takes longer than all the
        rest of the start, and lookups do not need it."""
        async with self._opening:
            if self._jobs is None:
                self._jobs = await asyncio.to_thread(self._open_jobs)
            return self._jobs

    def _open_jobs(self) -> "Jobs":
        from app.jobs import Jobs

        return Jobs(self.settings.jobs_url, self.shelf, self.settings.database_pool)

    async def close(self) -> None:
        """Close connections."""
        await self.live.close()
        if self._jobs:
            await asyncio.to_thread(self._jobs.close)
        await self.keyring.close()
        self.job_counts.close()
        await self.lookups.close()
        self.shelf.close()


async def services(request: Request) -> Services:
    """The services of the application that a request came to. A coroutine, as FastAPI calls
    anything else on another thread, which takes a millisecond."""
    return request.app.state.services


Use = Annotated[Services, Depends(services)]
