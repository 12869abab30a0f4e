"""Activations for many callers' texts at once.

Each turn one batch: a text of the caller whose turn it is, and with it the waiting texts of
anybody that are nearest to it in length, right-padded, up to a budget of tokens. One forward that
stops at the deepest hook point asked for serves all SAEs; each SAE encodes the tokens of the texts
that want it, without padding: whole features column by column, or the strongest per token. What
else can be read of the states says `worker.live.kinds`.

States of recent texts are kept (`worker.live.residuals`), and need no forward.

Nothing is left out: values at BOS and other special tokens are reported as they are.
"""

import logging
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from app.errors import Problem, TooLarge
from app.logs import REQUEST_ID
from worker.activations import capture, not_finite
from worker.live import meters
from worker.live.budget import Tab
from worker.live.kinds import Reading, Values
from worker.live.residuals import ResidualCache, State, Text
from worker.live.strongest import Strongest
from worker.memory import forget
from worker.models import LanguageModel

log = logging.getLogger(__name__)

CAPTURE_TOKENS = 1024
"""Tokens of a batch, padding included; a longer text is a batch by itself."""


@dataclass(eq=False)
class CaptureJob:
    """One activations request."""

    texts: list[list[int]]
    readings: Sequence[Reading]
    most: int | None = None
    """Values that the answer may have, where it is known only afterwards how many there are."""
    tab: Tab | None = None
    """Where the values are counted that are in memory, of all requests."""
    values: list[dict[str, Values]] = field(init=False)
    """Per text, by name of the reading."""
    found: int = 0
    """Values so far."""
    todo: list[int] = field(init=False)
    """Texts not yet done, longest first."""
    answer: "Future[list[dict[str, Values]]]" = field(default_factory=Future)
    request_id: str = field(default_factory=REQUEST_ID.get)
    began: float | None = None
    """When its first text was in a batch, in monotonic seconds."""

    def __post_init__(self) -> None:
        self.values = [{} for _ in self.texts]
        self.todo = sorted(range(len(self.texts)), key=lambda text: -len(self.texts[text]))

    def put(self, text: int, name: str, values: Values) -> None:
        """Keep what was read of a text; it fails the job where that is too much."""
        amount = len(values.token) if isinstance(values, Strongest) else values.size
        try:
            self._count(amount)
        except Problem as problem:
            _fail(self, problem)
        else:
            self.values[text][name] = values

    def _count(self, amount: int) -> None:
        self.found += amount
        if self.most is not None and self.found > self.most:
            raise TooLarge(
                f"At least {self.found} values are active on these texts; one answer may have "
                f"{self.most} (SAESCOPE_MAX_VALUES). Ask for fewer texts or SAEs, or for the "
                "strongest features alone.",
                values=self.found,
                limit=self.most,
            )
        if self.tab is not None:
            self.tab.add(amount)


Piece = tuple[CaptureJob, int]
"""One text of a job."""
Member = tuple[int, Reading]
"""A row of a batch, and what is read of it."""


class CaptureQueue:
    """Jobs of one model, served in turns."""

    def __init__(self, model: LanguageModel, budget: int = CAPTURE_TOKENS) -> None:
        self._model = model
        self._budget = budget
        self._cache = ResidualCache()
        self._jobs: deque[CaptureJob] = deque()

    @property
    def waiting(self) -> int:
        """Texts not yet done."""
        return sum(len(job.todo) for job in list(self._jobs))

    @property
    def waiting_tokens(self) -> int:
        """Tokens of these texts."""
        jobs = list(self._jobs)
        return sum(len(job.texts[text]) for job in jobs for text in list(job.todo))

    @property
    def n_bytes(self) -> int:
        """Memory that kept states take."""
        return self._cache.n_bytes

    def submit(self, job: CaptureJob) -> None:
        """Queue a job that was checked beforehand; its future gets the values."""
        self._jobs.append(job)

    def abort(self, problem: Problem) -> None:
        """Fail all jobs."""
        for job in self._jobs:
            _fail(job, problem)
        self._jobs.clear()

    @torch.inference_mode()
    def step(self) -> None:
        """Run one batch. What goes wrong fails the jobs that it touches."""
        self._drop_done()
        if not self._jobs:
            return
        pieces = self._next_batch()
        now = time.monotonic()
        for job, _ in pieces:
            job.began = job.began or now
        lengths = list(map(_length, pieces))
        meters.CAPTURE_TEXTS.observe(len(lengths))
        meters.CAPTURE_TOKENS.observe(sum(lengths))
        meters.CAPTURED.inc(sum(lengths))
        self._attempt(pieces)
        for job, text in pieces:
            job.todo.remove(text)
            if not job.todo:
                with suppress(InvalidStateError):  # failed, or its caller is gone
                    job.answer.set_result(job.values)
        self._drop_done()

    def _drop_done(self) -> None:
        """Keep nothing of jobs that are answered, have failed, or whose callers are gone."""
        self._jobs = deque(job for job in self._jobs if not job.answer.done())

    def _attempt(self, pieces: list[Piece]) -> None:
        """Run a batch; when that fails, one text at a time, so that only those fail that fail by
        themselves."""
        try:
            self._run(pieces)
        except Exception as error:  # whatever a model raises, the other jobs go on
            meters.failed("capture")
            log.exception("A capture of %d texts failed: %s", len(pieces), _requests(pieces))
            forget(error)
            if len(pieces) == 1:
                _fail(pieces[0][0], error)
            else:
                for piece in pieces:
                    self._attempt([piece])

    def _next_batch(self) -> list[Piece]:
        self._jobs.rotate(-1)
        lead = self._jobs[-1]
        length = len(lead.texts[lead.todo[0]])
        others = (job for job in self._jobs if job is not lead)
        waiting = [(job, text) for job in (lead, *others) for text in job.todo]
        # The sort is stable, so the lead's longest text comes first.
        waiting.sort(key=lambda piece: abs(_length(piece) - length))
        longest = 0
        for count, piece in enumerate(waiting):
            longest = max(longest, _length(piece))
            if count and longest * (count + 1) > self._budget:
                return waiting[:count]
        return waiting

    def _states(self, pieces: list[Piece]) -> list[dict[str, State]]:
        """States of every text at the hook points that its readings want, or at more; without those
        that are not finite."""
        kept = [self._cache.get(_text(piece), _hooks(piece)) for piece in pieces]
        missing = [piece for piece, own in zip(pieces, kept, strict=True) if own is None]
        fresh = iter(self._capture(missing) if missing else [])
        return [next(fresh) if own is None else own for own in kept]

    def _capture(self, pieces: list[Piece]) -> list[dict[str, State]]:
        """States of every text at all hook points that any of them wants, by one forward."""
        hooks = sorted(set().union(*map(_hooks, pieces)))
        captured = capture(self._model, _padded(pieces), hooks)
        broken = {hook: _not_finite(state, pieces) for hook, state in captured.items()}
        found = []
        for row, piece in enumerate(pieces):
            # Copies: what is kept of a text must not keep the whole batch.
            own = {
                hook: captured[hook][row, : _length(piece)].clone()
                for hook in hooks
                if row not in broken[hook]
            }
            for hook, state in own.items():
                self._cache.put(_text(piece), hook, state)
            found.append(own)
        return found

    def _run(self, pieces: list[Piece]) -> None:
        with meters.CAPTURE.time():
            states = self._states(pieces)
        groups: dict[Hashable, list[Member]] = {}
        for row, (job, _) in enumerate(pieces):
            for reading in job.readings:
                groups.setdefault(reading.group, []).append((row, reading))
        for members in groups.values():
            hook = members[0][1].hook
            for row in (row for row, _ in members if hook not in states[row]):
                _fail(pieces[row][0], not_finite(self._model, hook))
            there = [
                (row, reading)
                for row, reading in members
                if hook in states[row] and not pieces[row][0].answer.done()
            ]
            try:
                if there:
                    with meters.ENCODE.time():
                        _read(states, pieces, there)
            except Exception as error:  # whatever it is, only who reads this caused it
                meters.failed("encode")
                log.exception("Reading at %s failed: %s", hook, _requests(pieces))
                forget(error)
                for row, _ in members:
                    _fail(pieces[row][0], error)


def _requests(pieces: list[Piece]) -> str:
    """For the log."""
    return " ".join(sorted({job.request_id for job, _ in pieces}))


def _hooks(piece: Piece) -> set[str]:
    return {reading.hook for reading in piece[0].readings}


def _text(piece: Piece) -> Text:
    job, text = piece
    return tuple(job.texts[text])


def _not_finite(state: Float[torch.Tensor, "n t w"], pieces: list[Piece]) -> set[int]:
    """Rows with numbers that are not finite; what is at the padding does not count."""
    finite = state.isfinite()
    if bool(finite.all()):
        return set()
    rows = finite.all(dim=-1)
    return {row for row, piece in enumerate(pieces) if not rows[row, : _length(piece)].all()}


def _read(states: list[dict[str, State]], pieces: list[Piece], members: list[Member]) -> None:
    """Read the texts of a group together and give each its part."""
    readings = [reading for _, reading in members]
    x = torch.cat([states[row][readings[0].hook] for row, _ in members])
    starts = np.cumsum([0, *(_length(pieces[row]) for row, _ in members)]).tolist()
    parts = type(readings[0]).read(readings, x, starts)
    for (row, reading), part in zip(members, parts, strict=True):
        job, text = pieces[row]
        job.put(text, reading.name, part)


def _padded(pieces: list[Piece]) -> torch.Tensor:
    texts = [torch.tensor(job.texts[text]) for job, text in pieces]
    return pad_sequence(texts, batch_first=True)


def _length(piece: Piece) -> int:
    job, text = piece
    return len(job.texts[text])


def _fail(job: CaptureJob, error: Exception) -> None:
    with suppress(InvalidStateError):  # failed before, or its caller is gone
        job.answer.set_exception(error)
