"""The engine in this process, without HTTP: requests are prepared as the live worker prepares them,
untimed, and run together to their end.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from app.contract.live import SteerRequest
from app.settings import Settings
from bench.live_callers import Callers, intervention
from bench.timing import Run, seconds_of
from worker.live.answer import Generation
from worker.live.capture import CaptureQueue
from worker.live.engine import BatchEngine
from worker.live.forward import BatchForward
from worker.live.prepare import prepare_generation
from worker.live.resident import Held, Resident
from worker.models import vocabulary
from worker.order import forward_order
from worker.resid_mid import find_exact_mid

LATE_PROMPTS = 8
"""Requests that come late, of which the median counts."""


class Engine:
    """An engine with as many slots as the live worker gives it."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        model, dictionary = callers.case.model, callers.case.dictionary
        forward = BatchForward(model)
        self.slots = forward.slots
        self._engine = BatchEngine(forward)
        resident = Resident(
            fingerprint="bench",
            model=model,
            vocabulary=vocabulary(model),
            exact_mid=find_exact_mid(model),
            order=forward_order(model),
            captures=CaptureQueue(model),
            engine=self._engine,
        )
        self._held = Held(resident, {dictionary.id: dictionary})

    def together(self, n: int, **fields: Any) -> Run:
        """The requests of `n` callers at once; runs them and counts their tokens. `fields` replace
        those of the request."""
        generations = [self.request(i, **fields) for i in range(n)]
        return lambda: self._run(generations)

    def each(self, n: int, entry: Callable[[int], dict[str, Any]]) -> Run:
        """As `together`; `entry` gives the steering of each caller."""
        generations = [self.request(i, steering=[entry(i)]) for i in range(n)]
        return lambda: self._run(generations)

    def request(self, i: int, **fields: Any) -> Generation:
        """The request of caller i, which ends at nothing but its length."""
        body = self._callers.body(i) | fields
        interventions = [intervention(entry) for entry in body.pop("steering")]
        request = SteerRequest.model_validate(body | {"interventions": interventions})
        generation = prepare_generation(request, self._held, Settings(live_timeout_s=1e6))
        for answer in generation.answers:
            answer.eos_ids = frozenset()
        return generation

    def tokens(self, i: int) -> list[int]:
        """What caller i is answered."""
        generation = self.request(i)
        self._run([generation])
        return generation.answers[0].tokens

    def first_token(self, running: int) -> tuple[float, float]:
        """Seconds of a step while `running` requests run, and from when one more comes until its
        first token."""
        taken, steps = [], []
        for i in range(running):
            self._engine.submit(self.request(i, max_new_tokens=4 * LATE_PROMPTS + 8))
        while self._engine.waiting:
            self._engine.step()
        for _ in range(LATE_PROMPTS):
            steps += [seconds_of(self._engine.step) for _ in range(3)]
            taken.append(self._late(running))
        self._run([])
        return statistics.median(steps), statistics.median(taken)

    def _late(self, i: int) -> float:
        late = self.request(i, max_new_tokens=1)
        started = time.monotonic()
        self._engine.submit(late)
        while late.first_token is None:
            self._engine.step()
        return late.first_token - started

    def _run(self, generations: list[Generation]) -> int:
        for one in generations:
            self._engine.submit(one)
        while self._engine.running or self._engine.waiting:
            self._engine.step()
        for one in generations:
            if one.problem:
                raise one.problem
        return sum(len(answer.tokens) for one in generations for answer in one.answers)
