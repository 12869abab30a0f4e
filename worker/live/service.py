"""What the server offers, on the event loop: it computes nothing itself (`worker.live.desk` does).

An answer's text is read here while the model thread appends to it: a slow client gets what came
together since its last line, so it holds nobody up and nothing piles up for it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from app.contract.complete import CompleteRequest
from app.contract.live import (
    ActivationsRequest,
    LiveHealth,
    SteerRequest,
    SweepRequest,
    TokenizeRequest,
)
from app.contract.steering import Intervention
from app.errors import NotFound, Problem
from app.settings import Settings
from worker.live import meters, render
from worker.live.answer import Answer, Generation
from worker.live.choices import ChoiceCursor, complete_answer, last_event
from worker.live.complete import prepare_complete
from worker.live.desk import Desk
from worker.live.library import Library
from worker.live.prepare import prepare_capture, prepare_generation, prepare_sweep, tokenize
from worker.live.resident import Held

log = logging.getLogger(__name__)


class LiveService:
    """One per process, used on one event loop."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self.desk = Desk(library, settings, self._on_change)
        self._news: dict[Generation, asyncio.Event] = {}

    def start(self) -> None:
        """Begin to serve; call it on the event loop."""
        self.desk.start()

    async def warm_up(self) -> None:
        """Load the models that the settings name; what cannot be loaded is told when it is asked
        for."""
        for model_id in self.desk.settings.live_models:
            try:
                await self.desk.hold(model_id, [], engine=True)
            except NotFound:
                log.info("%s is not registered yet; the first request for it loads it", model_id)
            except Problem as problem:
                log.warning("%s could not be loaded: %s", model_id, problem.detail)
            except Exception:
                log.exception("%s could not be loaded", model_id)

    def stop(self) -> None:
        """End; unfinished answers fail as unavailable."""
        self.desk.stop()

    def health(self) -> LiveHealth:
        """Models in memory and the rows of their batches."""
        residents = self.desk.library.residents
        engines = [r.engine for r in residents.values() if r.engine is not None]
        return LiveHealth(
            models=sorted(residents),
            device=str(self.desk.library.device),
            running=sum(engine.running for engine in engines),
            rows=sum(engine.rows for engine in engines),
            waiting=sum(engine.waiting for engine in engines),
            generated=sum(engine.generated for engine in engines),
            requests=self.desk.requests.taken,
            tokens=self.desk.tokens.taken,
        )

    async def tokenize(self, request: TokenizeRequest) -> bytes:
        """JSON of a `TokenizeAnswer`."""
        work = partial(tokenize, request)
        _, answer = await self.desk.prepared(request.model, [], work)
        return answer

    async def activations(self, request: ActivationsRequest) -> bytes:
        """JSON of an `ActivationsAnswer`."""
        work = partial(prepare_capture, request, settings=self.desk.settings)
        held, job = await self.desk.prepared(request.model, request.saes, work)
        async with self.desk.captured(held, job) as values:
            pieces = render.activations(job, values, held.resident.vocabulary)
            return await self.desk.joined(pieces)

    async def prepare(self, request: SteerRequest) -> tuple[Held, Generation]:
        """A generation, checked and ready to run."""
        work = partial(prepare_generation, request, settings=self.desk.settings)
        return await self.desk.prepared(
            request.model, _saes(request.interventions), work, engine=True
        )

    async def answer(self, held: Held, generation: Generation) -> dict[str, Any]:
        """Run a generation; a `SteerAnswer`. Leaving early cancels it."""
        await self._run(held, generation)
        return render.steer_answer(generation)

    async def sweep(self, request: SweepRequest) -> bytes:
        """JSON of a `SweepAnswer`. Leaving early cancels it."""
        work = partial(prepare_sweep, request, settings=self.desk.settings)
        saes = _saes(request.interventions)
        held, generation = await self.desk.prepared(request.model, saes, work, engine=True)
        await self._run(held, generation)
        return await self.desk.at_desk(lambda: render.sweep_answer(generation, request.strengths))

    def events(self, held: Held, generation: Generation) -> AsyncGenerator[dict[str, Any]]:
        """Run a generation; `SteerEvent`s as they come. Leaving early cancels it."""
        cursors = [Cursor(answer) for answer in generation.answers]
        return self._events(held, generation, cursors, lambda: render.last_event(generation))

    async def prepare_complete(self, request: CompleteRequest) -> tuple[Held, Generation]:
        """Choices, checked and ready to run."""
        work = partial(prepare_complete, request, settings=self.desk.settings)
        return await self.desk.prepared(
            request.model, _saes(request.interventions), work, engine=True
        )

    async def complete(self, held: Held, generation: Generation, request: CompleteRequest) -> bytes:
        """Run choices; JSON of a `CompleteAnswer`. Leaving early cancels them."""
        await self._run(held, generation)
        return await self.desk.joined(complete_answer(generation, request))

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
        try:
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
        except Problem as problem:  # the worker is full
            generation.fail(problem)
        if generation.problem is not None:
            meters.refused(generation.problem)
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
        with self.desk.tokens.holding(generation.tokens):
            news = self._news[generation] = asyncio.Event()
            self.desk.thread.generate(held, generation)
            try:
                yield news
            finally:
                generation.cancelled = generation.ended is None
                del self._news[generation]
                meters.ended(generation)

    def _on_change(self, changed: set[Generation]) -> None:
        """Called on the model thread. Who gets the answer whole is told once."""
        told = {one for one in changed if one.streamed or one.ended is not None}
        if told:
            self.desk.loop.call_soon_threadsafe(self._announce, told)

    def _announce(self, changed: set[Generation]) -> None:
        for generation in changed:
            if generation in self._news:
                self._news[generation].set()


def _saes(interventions: list[Intervention]) -> list[str]:
    """Every SAE that these take."""
    return list(dict.fromkeys(name for entry in interventions for name in entry.saes))


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
