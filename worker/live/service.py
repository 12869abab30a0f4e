"""What the server offers, on the event loop: it computes nothing itself.

Look-ups on the shelf, tokenising, checking and the JSON of large answers happen on one desk thread,
loading and running models on the model thread, the ranking of a search on a thread of its own, as it
may take a second. An answer's text is read here while the model thread appends to it: a slow client
gets what came together since its last line, so it holds nobody up and nothing piles up for it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from app.contract.complete import CompleteRequest
from app.contract.live import (
    ActivationsRequest,
    LiveHealth,
    SteerRequest,
    SweepRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from app.contract.search import SearchRequest
from app.contract.steering import Intervention
from app.errors import NotFound
from app.settings import Settings
from app.store.activity import Activity
from worker.live import render
from worker.live.answer import Answer, Generation
from worker.live.choices import ChoiceCursor, complete_answer, last_event
from worker.live.complete import prepare_complete
from worker.live.library import Library, Wanted
from worker.live.prepare import prepare_capture, prepare_generation, prepare_sweep, tokenize
from worker.live.resident import Held
from worker.live.search.answer import search_answer
from worker.live.search.captured import rank_captured
from worker.live.search.ranking import Ranking
from worker.live.search.sources import Sources
from worker.live.search.texts import check_unchanged, prepare_search
from worker.live.search.vector import blocks, cosines, rank_by_cosine, side_of, unit
from worker.live.thread import ModelThread

log = logging.getLogger(__name__)

T = TypeVar("T")
DESK_S = 0.02
"""Seconds that one request has the desk when it wants it for longer."""


class LiveService:
    """One per process, used on one event loop."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._settings = settings
        self._sources = Sources(library)
        self._desk = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._ranks = ThreadPoolExecutor(1, thread_name_prefix="ranks")
        self._thread = ModelThread(self._on_change)
        self._news: dict[Generation, asyncio.Event] = {}

    def start(self) -> None:
        """Begin to serve; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def warm_up(self) -> None:
        """Load the models that the settings name; what cannot be loaded is told when it is asked
        for."""
        for model_id in self._settings.live_models:
            try:
                await self._hold(model_id, [], engine=True)
            except NotFound:
                log.info("%s is not registered yet; the first request for it loads it", model_id)
            except Exception:
                log.exception("%s could not be loaded", model_id)

    def stop(self) -> None:
        """End the threads; unfinished answers fail as unavailable."""
        self._thread.stop()
        self._desk.shutdown()
        self._ranks.shutdown()

    def health(self) -> LiveHealth:
        """Models in memory and the rows of their batches."""
        residents = self._library.residents
        engines = [r.engine for r in residents.values() if r.engine is not None]
        return LiveHealth(
            models=sorted(residents),
            device=str(self._library.device),
            running=sum(engine.running for engine in engines),
            waiting=sum(engine.waiting for engine in engines),
            generated=sum(engine.generated for engine in engines),
        )

    async def tokenize(self, request: TokenizeRequest) -> TokenizeAnswer:
        """Token ids and display strings of a text."""
        work = partial(tokenize, request)
        _, (ids, tokens) = await self._prepared(request.model, [], work, engine=False)
        return TokenizeAnswer(ids=ids, tokens=tokens)

    async def activations(self, request: ActivationsRequest) -> bytes:
        """JSON of an `ActivationsAnswer`."""
        work = partial(prepare_capture, request, settings=self._settings)
        held, job = await self._prepared(request.model, request.saes, work, engine=False)
        self._thread.capture(held, job)
        values = await asyncio.wrap_future(job.answer)
        return await self._joined(render.activations(job, values, held.resident.vocabulary))

    async def search(self, request: SearchRequest) -> bytes:
        """JSON of a `SearchAnswer`."""
        sources = await self._at_desk(lambda: self._sources.choose(request))
        held = await self._hold(request.model, [*sources], engine=False)
        check_unchanged(held, sources)
        if request.vector is None:
            tokens, rankings = await self._rank_texts(request, held, sources)
        else:
            tokens, rankings = [], await self._rank_weights(request, held)
        shelf = self._library.shelf
        return await self._at_desk(lambda: search_answer(shelf, request, tokens, rankings, sources))

    async def _rank_texts(
        self, request: SearchRequest, held: Held, sources: dict[str, Activity]
    ) -> tuple[list[list[str]], dict[str, Ranking]]:
        """Tokens of the texts, and the ranking of every SAE by what is active on them."""
        settings = self._settings
        texts, job = await self._at_desk(lambda: prepare_search(request, held, sources, settings))
        self._thread.capture(held, job)
        values = await asyncio.wrap_future(job.answer)
        rankings: dict[str, Ranking] = {}
        for sae, activity in sources.items():
            own = [found[sae] for found in values]
            work = partial(rank_captured, request, texts, own, activity)
            rankings[sae] = await self._loop.run_in_executor(self._ranks, work)
        return texts.tokens, rankings

    async def _rank_weights(self, request: SearchRequest, held: Held) -> dict[str, Ranking]:
        """Block by block, so that others come to the model thread in between."""
        side, direction = side_of(request), unit(request.vector or [])
        rankings: dict[str, Ranking] = {}
        for sae, dictionary in held.dictionaries.items():
            parts = []
            for block in blocks(dictionary, len(direction)):
                work = partial(cosines, dictionary, side, direction, block)
                parts.append(await asyncio.wrap_future(self._thread.call(work)))
            rankings[sae] = rank_by_cosine(np.concatenate(parts), side)
        return rankings

    async def prepare(self, request: SteerRequest) -> tuple[Held, Generation]:
        """A generation, checked and ready to run."""
        work = partial(prepare_generation, request, settings=self._settings)
        return await self._prepared(request.model, _saes(request.interventions), work, engine=True)

    async def answer(self, held: Held, generation: Generation) -> dict[str, Any]:
        """Run a generation; a `SteerAnswer`. Leaving early cancels it."""
        await self._run(held, generation)
        return render.steer_answer(generation)

    async def sweep(self, request: SweepRequest) -> bytes:
        """JSON of a `SweepAnswer`. Leaving early cancels it."""
        work = partial(prepare_sweep, request, settings=self._settings)
        saes = _saes(request.interventions)
        held, generation = await self._prepared(request.model, saes, work, engine=True)
        await self._run(held, generation)
        return await self._at_desk(lambda: render.sweep_answer(generation, request.strengths))

    def events(self, held: Held, generation: Generation) -> AsyncGenerator[dict[str, Any]]:
        """Run a generation; `SteerEvent`s as they come. Leaving early cancels it."""
        cursors = [Cursor(answer) for answer in generation.answers]
        return self._events(held, generation, cursors, lambda: render.last_event(generation))

    async def prepare_complete(self, request: CompleteRequest) -> tuple[Held, Generation]:
        """Choices, checked and ready to run."""
        work = partial(prepare_complete, request, settings=self._settings)
        return await self._prepared(request.model, _saes(request.interventions), work, engine=True)

    async def complete(self, held: Held, generation: Generation, request: CompleteRequest) -> bytes:
        """Run choices; JSON of a `CompleteAnswer`. Leaving early cancels them."""
        await self._run(held, generation)
        return await self._joined(complete_answer(generation, request))

    def complete_events(
        self, held: Held, generation: Generation, request: CompleteRequest
    ) -> AsyncGenerator[dict[str, Any]]:
        """Run choices; `CompleteEvent`s as they come. Leaving early cancels them."""
        cursors = [ChoiceCursor(place, answer) for place, answer in enumerate(generation.answers)]
        return self._events(held, generation, cursors, lambda: last_event(generation, request))

    async def _events(
        self,
        held: Held,
        generation: Generation,
        cursors: Sequence["Cursor | ChoiceCursor"],
        last: Callable[[], dict[str, Any]],
    ) -> AsyncGenerator[dict[str, Any]]:
        """Run a generation; what is new of its answers, then the last event."""
        generation.streamed = True
        with self._running(held, generation) as news:
            ended = False
            while not ended:
                await news.wait()
                news.clear()
                # Read before the texts: what is ended now has its whole text already.
                ended = generation.ended is not None
                for cursor in cursors:
                    if delta := cursor.advance():
                        yield delta
        yield last()

    async def _run(self, held: Held, generation: Generation) -> None:
        with self._running(held, generation) as news:
            while generation.ended is None:
                await news.wait()
                news.clear()
        if generation.problem is not None:
            raise generation.problem

    @contextmanager
    def _running(self, held: Held, generation: Generation) -> Iterator[asyncio.Event]:
        news = self._news[generation] = asyncio.Event()
        self._thread.generate(held, generation)
        try:
            yield news
        finally:
            generation.cancelled = generation.ended is None
            del self._news[generation]

    async def _prepared(
        self, model: str, saes: list[str], prepare: Callable[[Held], T], engine: bool
    ) -> tuple[Held, T]:
        """What a request needs, and what is made of it at the desk: in one go where all of it is in
        memory."""

        def at_once() -> tuple[Held, T] | None:
            held = self._library.current(model, saes, engine)
            return held and (held, prepare(held))

        done = await self._at_desk(at_once)
        if done is None:
            held = await self._hold(model, saes, engine)
            done = held, await self._at_desk(lambda: prepare(held))
        return done

    async def _hold(self, model: str, saes: list[str], engine: bool) -> Held:
        def find() -> Held | Wanted:
            held = self._library.current(model, saes, engine)
            return held or self._library.look_up(model, saes, engine)

        found = await self._at_desk(find)
        if isinstance(found, Held):
            return found
        return await asyncio.wrap_future(self._thread.call(lambda: self._library.load(found)))

    async def _at_desk(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._desk, work)

    async def _joined(self, pieces: Iterator[bytes]) -> bytes:
        """All pieces, made at the desk a few at a time: others come in between."""
        made: list[bytes] = []
        while await self._at_desk(lambda: _some(pieces, made)):
            pass
        return b"".join(made)

    def _on_change(self, changed: set[Generation]) -> None:
        """Called on the model thread. Who gets the answer whole is told once."""
        told = {one for one in changed if one.streamed or one.ended is not None}
        if told:
            self._loop.call_soon_threadsafe(self._announce, told)

    def _announce(self, changed: set[Generation]) -> None:
        for generation in changed:
            if generation in self._news:
                self._news[generation].set()


def _saes(interventions: list[Intervention]) -> list[str]:
    """Every SAE that these take."""
    return list(dict.fromkeys(name for entry in interventions for name in entry.saes))


def _some(pieces: Iterator[bytes], made: list[bytes]) -> bool:
    """Make pieces for `DESK_S`; whether there may be more."""
    until = time.monotonic() + DESK_S
    for piece in pieces:
        made.append(piece)
        if time.monotonic() > until:
            return True
    return False


class Cursor:
    """How much of an answer a stream has sent."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._characters = 0
        self._tokens = 0

    def advance(self) -> dict[str, Any] | None:
        """A delta with what is new, None when nothing is."""
        text = self._answer.text.text[self._characters :]
        tokens = self._answer.tokens[self._tokens :]
        if not text and not tokens:
            return None
        self._characters += len(text)
        self._tokens += len(tokens)
        return render.delta(self._answer, text, tokens)
