"""Where requests are worked on, away from the event loop.

Look-ups on the shelf, tokenising, checking and the JSON of large answers happen on one desk thread,
loading and running models on the model thread; what may take a second of numpy or templates, such as
the ranking of a search, has a thread of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TypeVar

from app import traces
from app.settings import Settings
from worker.live import meters
from worker.live.answer import Generation
from worker.live.budget import Budget
from worker.live.capture import CaptureJob
from worker.live.kinds import Values
from worker.live.library import Library, Wanted
from worker.live.resident import Held
from worker.live.search.sources import Sources
from worker.live.thread import ModelThread

T = TypeVar("T")
ANSWERS_HELD = 4
"""Activations answers of the largest size whose values are in memory at a time."""
DESK_S = 0.02
"""Seconds that one request has the desk when it wants it for longer."""


class Desk:
    """One per process, used on one event loop."""

    def __init__(
        self,
        library: Library,
        settings: Settings,
        on_change: Callable[[set[Generation]], None],
    ) -> None:
        """`on_change` is called on the model thread with generations that have news."""
        self.library = library
        self.settings = settings
        self.sources = Sources(library)
        """For the desk thread only."""
        self.thread = ModelThread(on_change)
        self.requests = Budget(settings.max_live_requests, "requests", "SAESCOPE_MAX_LIVE_REQUESTS")
        self.tokens = Budget(settings.max_live_tokens, "tokens", "SAESCOPE_MAX_LIVE_TOKENS")
        self.values = Budget(
            ANSWERS_HELD * settings.max_values,
            "values of answers",
            f"{ANSWERS_HELD} times SAESCOPE_MAX_VALUES",
        )
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._ranks = ThreadPoolExecutor(1, thread_name_prefix="ranks")

    def start(self) -> None:
        """Begin to work; call it on the event loop."""
        self.loop = asyncio.get_running_loop()
        self.thread.start()

    def stop(self) -> None:
        """End the threads; unfinished answers fail as unavailable."""
        self.thread.stop()
        self._desk.shutdown()
        self._ranks.shutdown()

    async def prepared(
        self, model: str, saes: list[str], prepare: Callable[[Held], T], engine: bool = False
    ) -> tuple[Held, T]:
        """What a request needs, and what is made of it at the desk: in one go where all of it is in
        memory."""

        def at_once() -> tuple[Held, T] | None:
            held = self.library.current(model, saes, engine)
            return held and (held, prepare(held))

        done = await self.at_desk(at_once)
        if done is None:
            held = await self.hold(model, saes, engine)
            done = held, await self.at_desk(lambda: prepare(held))
        return done

    async def hold(self, model: str, saes: list[str], engine: bool = False) -> Held:
        """A model and SAEs in memory, loaded where they are not."""

        def find() -> Held | Wanted:
            held = self.library.current(model, saes, engine)
            return held or self.library.look_up(model, saes, engine)

        found = await self.at_desk(find)
        if isinstance(found, Held):
            return found
        began = time.monotonic()
        try:
            return await self.on_model(lambda: self._load(found))
        finally:
            traces.past("load", began, time.monotonic())

    def _load(self, wanted: Wanted) -> Held:
        with meters.LOAD.time():
            return self.library.load(wanted)

    @asynccontextmanager
    async def captured(self, held: Held, job: CaptureJob) -> AsyncIterator[list[dict[str, Values]]]:
        """The values of a job, by text and name of the reading, while this is open."""
        with self.tokens.holding(sum(map(len, job.texts))), self.values.open_tab() as job.tab:
            yield await self._captured(held, job)

    async def _captured(self, held: Held, job: CaptureJob) -> list[dict[str, Values]]:
        submitted = time.monotonic()
        self.thread.capture(held, job)
        try:
            return await asyncio.wrap_future(job.answer)
        finally:
            meters.captured(submitted, job.began)

    async def at_desk(self, work: Callable[[], T]) -> T:
        """Something short."""

        def timed() -> T:
            with meters.DESK.time():
                return work()

        # In the request's context, so that what is logged or made here has its id.
        return await self.loop.run_in_executor(self._desk, copy_context().run, timed)

    async def aside(self, work: Callable[[], T]) -> T:
        """Something long that needs no model."""
        return await self.loop.run_in_executor(self._ranks, work)

    async def on_model(self, work: Callable[[], T]) -> T:
        """Something with a model or an SAE, between two turns."""
        return await asyncio.wrap_future(self.thread.call(work))

    async def joined(self, pieces: Iterator[bytes]) -> bytes:
        """All pieces, made at the desk a few at a time: others come in between."""
        made: list[bytes] = []
        while await self.at_desk(lambda: _some(pieces, made)):
            pass
        return b"".join(made)


def _some(pieces: Iterator[bytes], made: list[bytes]) -> bool:
    """Make pieces for `DESK_S`; whether there may be more."""
    until = time.monotonic() + DESK_S
    for piece in pieces:
        made.append(piece)
        if time.monotonic() > until:
            return True
    return False
