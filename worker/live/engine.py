"""Generation: continuous batching, every row with its own steering and sampling.

One step: (1) rows whose caller left or whose time is over go; (2) waiting answers, requests taking
turns, join while slots and the prefill budget last, by one right-padded prefill that also samples
their first token; a prompt that is longer than the budget is processed outside of the batch, one at
a time, half a budget a step, and its row joins when it is complete; (3) one decode step samples the
next token of every row; (4) finished rows leave, the last row moving into the hole; (5) a receipt
that somebody waits for gets on by a piece, outside of the batch as well. An exact answer waits until
the batch is empty and then has it for itself.

A failure is kept to where it happened: what a dictionary raises fails its row, a row whose logits
are not finite fails alone, a failing prefill of several rows is done again one row at a time, and a
failing decode step fails the rows of the batch. The engine goes on with whoever waits.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float

from app.errors import Invalid, Problem
from worker.live import meters
from worker.live.answer import Answer, Generation
from worker.live.forward import BatchForward
from worker.live.logprobs import logprobs_of
from worker.live.receipts import Receipts
from worker.live.sampling import next_tokens
from worker.live.steering import PREFILL
from worker.live.turns import in_turns
from worker.memory import forget, lacked_memory, no_memory

log = logging.getLogger(__name__)

PREFILL_TOKENS = 1024
"""Prompt tokens, padding included, that are processed in one step."""

Row = tuple[Generation, Answer]


@dataclass
class LongPrompt:
    """A row whose prompt is being processed in pieces."""

    row: Row
    done: int = 0
    """Tokens processed."""


class BatchEngine:
    """`worker.live.backend.Engine` over a Hugging Face model in this process."""

    def __init__(self, forward: BatchForward, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self._forward = forward
        self._prefill_tokens = prefill_tokens
        self._generated = 0
        self._rows: list[Row] = []
        self._long: LongPrompt | None = None
        self._queue: deque[Row] = deque()
        self._receipts = Receipts(forward, max(1, prefill_tokens // 4))

    @property
    def max_len(self) -> int:
        """Tokens of prompt and answer together that a row holds."""
        return self._forward.max_len

    @property
    def rows(self) -> int:
        """Rows that the batch can have."""
        return self._forward.slots

    @property
    def running(self) -> int:
        """Rows in the batch, a long prompt before it, and receipts behind it."""
        return self._taken + len(self._receipts.generations)

    @property
    def _taken(self) -> int:
        """Slots that are taken."""
        return len(self._rows) + (self._long is not None)

    @property
    def waiting(self) -> int:
        """Answers that have not joined."""
        return len(self._queue)

    @property
    def waiting_tokens(self) -> int:
        """Tokens of their prompts."""
        return sum(len(answer.prompt) for _, answer in list(self._queue))

    @property
    def generated(self) -> int:
        """Tokens sampled so far, of all answers."""
        return self._generated

    @property
    def _present(self) -> list[Row]:
        """Rows that have a slot."""
        return [*self._rows, *([self._long.row] if self._long else [])]

    @property
    def _everyone(self) -> set[Generation]:
        rows = (*self._present, *self._queue)
        return {generation for generation, _ in rows} | self._receipts.generations

    def submit(self, generation: Generation) -> None:
        """Queue the answers of a generation that was checked beforehand."""
        rows = ((generation, answer) for answer in generation.answers)
        self._queue = deque(in_turns([*self._queue, *rows]))

    @torch.inference_mode()
    def abort(self, problem: Problem) -> set[Generation]:
        """Fail everything that runs or waits; return what changed."""
        for generation in self._everyone:
            generation.fail(problem)
        return self._drop()

    @torch.inference_mode()
    def step(self) -> set[Generation]:
        """Advance every row by a token, joining ones by two; return what changed."""
        return self._drop() | self._go_on() | self._join() | self._decode() | self._receipt()

    def _drop(self) -> set[Generation]:
        """Let rows go that are finished, failed, cancelled or out of time; return what ended."""
        now = time.monotonic()
        ended = {generation for generation in self._everyone if generation.settle(now)}
        for row in reversed(range(len(self._rows))):
            if _is_over(self._rows[row]):
                self._leave(row)
        if self._long and _is_over(self._long.row):
            self._long = None
            self._forward.vacate(self._forward.long_room)
        self._queue = deque(row for row in self._queue if not _is_over(row))
        for generation in ended:
            self._receipts.drop(generation)
        return ended

    def _leave(self, row: int) -> None:
        last = len(self._rows) - 1
        generation, answer = self._rows[row]
        failed = generation.problem is not None
        if not failed and not answer.is_over:
            self._receipts.add(generation, answer)
        self._forward.leave(row, last, self._rows[last][1].length, failed)
        self._rows[row] = self._rows[last]
        self._rows.pop()

    def _go_on(self) -> set[Generation]:
        """Process more of a long prompt; its row joins with the last piece."""
        if self._long is None:
            return set()
        row, begin = self._long.row, self._long.done
        prompt = row[1].prompt
        end = min(begin + max(1, self._prefill_tokens // 2), len(prompt))
        self._long.done = end
        if end < len(prompt):
            return self._attempt({row[0]}, lambda: self._piece(row[1], begin, end))
        self._long = None
        self._rows.append(row)
        place = len(self._rows) - 1

        def last() -> Float[torch.Tensor, "1 v"]:
            try:
                logits = self._piece(row[1], begin, end)
                self._forward.admit(place, len(prompt))
            finally:
                self._forward.vacate(self._forward.long_room)
            return logits

        return self._advance(place, last)

    def _piece(self, answer: Answer, begin: int, end: int) -> Float[torch.Tensor, "1 v"]:
        room = self._forward.long_room
        if begin == 0:
            self._forward.prepare(room, [answer.edits])
        with meters.PREFILL.time():
            logits = self._forward.piece(room, answer.prompt[begin:end], begin, PREFILL)
        meters.PROMPT.inc(end - begin)
        for error in self._forward.failed.values():
            raise error
        return logits[:, -1]

    def _join(self) -> set[Generation]:
        """Prefill answers that wait and sample the first token of each."""
        joining = self._next_to_join()
        now = time.monotonic()
        for generation, answer in joining:
            generation.joined = generation.joined or now
            meters.PROMPT.inc(len(answer.prompt))
        if not joining:
            return set()
        with meters.PREFILL.time():
            return self._enter(joining)

    def _enter(self, joining: list[Row]) -> set[Generation]:
        """Prefill rows together; when that fails, one at a time, so that only those fail that fail
        by themselves."""
        first = len(self._rows)
        self._rows += joining
        prompts = [answer.prompt for _, answer in joining]
        edits = [answer.edits for _, answer in joining]
        prefill = partial(self._forward.prefill, first, prompts, edits)
        if len(joining) == 1:
            return self._advance(first, prefill)
        try:
            logits = prefill()
        except Exception as error:  # whatever a model raises
            meters.failed("prefill")
            log.exception("A prefill of %d rows failed; now one at a time", len(joining))
            forget(error)
            for row in range(first, len(self._rows)):
                self._forward.leave(row, row, 0, failed=True)
            del self._rows[first:]
            return set().union(*(self._enter([row]) for row in joining if not _is_over(row)))
        return self._advance(first, lambda: logits)

    def _next_to_join(self) -> list[Row]:
        """Waiting answers in their order, as many as fit; a long prompt whose room is taken lets
        those behind it pass."""
        joining: list[Row] = []
        passed: list[Row] = []
        longest, budget = 0, self._prefill_tokens // (2 if self._long else 1)
        alone = any(generation.exact for generation, _ in self._present)
        while self._queue and not alone and self._taken + len(joining) < self._forward.slots:
            generation, answer = self._queue[0]
            if generation.exact and (self._taken or joining):
                break
            if len(answer.prompt) > self._prefill_tokens:
                if self._long:
                    passed.append(self._queue.popleft())
                    continue
                self._long = LongPrompt(self._queue.popleft())
                generation.joined = generation.joined or time.monotonic()
                alone = generation.exact
                continue
            longest = max(longest, len(answer.prompt))
            if joining and longest * (len(joining) + 1) > budget:
                break
            joining.append(self._queue.popleft())
            alone = generation.exact
        self._queue.extendleft(reversed(passed))
        return joining

    def _decode(self) -> set[Generation]:
        """Process every row's last token and sample the next one."""
        if not self._rows:
            return set()
        span = max(answer.length for _, answer in self._rows)
        meters.DECODE_ROWS.observe(len(self._rows))
        with meters.DECODE.time():
            return self._advance(0, partial(self._decoded, span))

    def _decoded(self, span: int) -> Float[torch.Tensor, "n v"]:
        """Logits of every row. Where memory lacks, the step is done again before all of them fail."""
        try:
            return self._forward.decode(len(self._rows), span)
        except Exception as error:
            if not forget(error):
                raise
        return self._forward.decode(len(self._rows), span)

    def _receipt(self) -> set[Generation]:
        """Go on with the receipt that is under way."""
        generation = self._receipts.first
        return self._attempt({generation}, self._receipts.step) if generation else set()

    def _advance(
        self, first: int, forward: Callable[[], Float[torch.Tensor, "n v"]]
    ) -> set[Generation]:
        """Run a forward of the rows from `first` on and take a token for each.

        What the forward raises fails these rows.
        """
        generations = {generation for generation, _ in self._rows[first:]}
        return self._attempt(generations, lambda: self._take(first, forward()))

    def _attempt(self, generations: set[Generation], work: Callable[[], object]) -> set[Generation]:
        """Do something for some generations, which fail if it does; return what changed."""
        try:
            work()
        except Exception as error:  # whatever a model raises, the others go on
            if not isinstance(error, Problem):
                meters.failed("forward")
                ids = " ".join(sorted(one.request_id for one in generations))
                log.exception("A forward for %d requests failed: %s", len(generations), ids)
                forget(error)
            for generation in generations:
                generation.fail(_problem(error))
        return generations | self._drop()

    def _take(self, first: int, logits: Float[torch.Tensor, "n v"]) -> None:
        """Sample a token for each row from `first` on and hand it to its answer."""
        answers = [answer for _, answer in self._rows[first:]]
        tokens = next_tokens(logits, [answer.sampling for answer in answers])
        self._forward.append(first, tokens)
        logprobs = logprobs_of(logits, tokens, [answer.top_logprobs for answer in answers])
        finite = logits.amax(-1).isfinite().tolist()
        meters.GENERATED.inc(len(answers))
        now = time.monotonic()
        taken = zip(tokens.tolist(), logprobs, finite, strict=True)
        for row, (token, logprob, usable) in enumerate(taken, first):
            generation, answer = self._rows[row]
            if row in self._forward.failed:
                generation.fail(_problem(self._forward.failed[row]))
            elif not usable:
                generation.fail(_not_finite(answer))
            else:
                generation.first_token = generation.first_token or now
                answer.take(token, logprob)
                self._generated += 1


def _is_over(row: Row) -> bool:
    generation, answer = row
    return generation.problem is not None or answer.reason is not None


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if lacked_memory(error):
        return no_memory()
    return Problem(f"The model could not compute this answer ({type(error).__name__}: {error}).")


def _not_finite(answer: Answer) -> Invalid:
    return Invalid(
        f"The model's output for `{answer.name}` is no longer finite; use smaller strengths."
    )
