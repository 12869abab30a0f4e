"""The model thread: the only one that runs models and SAEs.

Work comes in as callables through one queue. While anything runs, each turn takes what is queued
and then gives every busy model one step of its engine and one batch of its captures, so neither
waits for the other to finish. When nothing runs, the thread sleeps on the queue.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from app.errors import Problem, Unavailable
from worker.live import meters
from worker.live.answer import Generation
from worker.live.capture import CaptureJob
from worker.live.resident import Held, Resident

log = logging.getLogger(__name__)

T = TypeVar("T")
STOP_S = 2.0
"""Seconds that the turn under way has to end."""


class ModelThread:
    """Start it, hand it work from any thread, stop it."""

    def __init__(self, on_change: Callable[[set[Generation]], None]) -> None:
        """`on_change` is called on the model thread with generations that have news."""
        self._on_change = on_change
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._busy: dict[Resident, None] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn under way; what runs or waits fails as unavailable. A turn that takes
        longer than `STOP_S`, such as the load of a large model, is left to end on its own."""

        def stop() -> None:
            self._stopping = True

        self._inbox.put(stop)
        self._thread.join(STOP_S)

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Run something on the model thread, between two turns."""
        answer: Future[T] = Future()

        def run() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(work())
                except Exception as error:  # noqa: BLE001  the caller gets it, whatever it is
                    answer.set_exception(error)

        self._inbox.put(run)
        return answer

    def generate(self, held: Held, generation: Generation) -> None:
        """Queue a generation; `on_change` reports on it."""

        def run() -> None:
            held.engine.submit(generation)
            self._busy[held.resident] = None

        self._inbox.put(run)

    def capture(self, held: Held, job: CaptureJob) -> None:
        """Queue a capture job; its future gets the answer."""

        def run() -> None:
            held.resident.captures.submit(job)
            self._busy[held.resident] = None

        self._inbox.put(run)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._receive()
                self._turns()
            for resident in self._busy:
                self._abort(resident, Unavailable("The live worker is shutting down; try again."))
        except BaseException:
            log.critical("The model thread is broken; the process ends", exc_info=True)
            os._exit(1)  # whoever supervises it starts another; without the thread it is no use

    def _receive(self) -> None:
        """Take all that is queued; wait for it when there is nothing else to do."""
        if not self._busy:
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _turns(self) -> None:
        """One turn of every busy model. By itself, so that no name here keeps a model in memory
        that the library drops in the meantime."""
        for resident in list(self._busy):
            self._turn(resident)

    def _turn(self, resident: Resident) -> None:
        engine, captures = resident.engine, resident.captures
        try:
            if engine is not None:
                self._on_change(engine.step())
            captures.step()
        except Exception as error:  # the thread serves everybody and must go on
            meters.failed("turn")
            log.exception("A turn of %s failed", resident.model.id)
            self._abort(resident, Problem(f"The live worker failed ({error}); try again."))
        if not captures.waiting and not (engine and (engine.running or engine.waiting)):
            del self._busy[resident]

    def _abort(self, resident: Resident, problem: Problem) -> None:
        if resident.engine is not None:
            self._on_change(resident.engine.abort(problem))
        resident.captures.abort(problem)
