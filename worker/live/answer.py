"""What the engine works on: a generation asked for, and its answers, one row of the batch each."""

import time
from dataclasses import dataclass, field

from app.contract.live import FinishReason
from app.errors import Problem, Unavailable
from app.logs import REQUEST_ID
from app.store.records import Vocabulary
from worker.live.detokenize import Detokenizer
from worker.live.logprobs import Logprob
from worker.live.receipt import Receipt
from worker.live.sampling import Sampling
from worker.live.steering import Edit


@dataclass(eq=False)
class Answer:
    """One text that grows by a token a step: steered, the baseline, or one of several choices."""

    name: str
    """`steered` or `baseline`, or the place in a request's list."""
    prompt: list[int]
    edits: tuple[Edit, ...]
    sampling: Sampling
    max_new_tokens: int
    eos_ids: frozenset[int]
    vocabulary: Vocabulary
    text: Detokenizer
    wants_receipt: bool = False
    top_logprobs: int | None = None
    """How many of the most probable tokens are told beside every drawn one; None tells nothing."""
    tokens: list[int] = field(default_factory=list)
    """Ids so far, a final EOS included."""
    logprobs: list[Logprob] = field(default_factory=list)
    """Of these tokens, where they are asked for."""
    reason: FinishReason | None = None
    receipt: Receipt | None = None
    """Made once the text is complete, if it is wanted."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        if self.reason is None or self.reason == "cancelled":
            return self.reason is not None
        return self.receipt is not None or not self.wants_receipt

    @property
    def length(self) -> int:
        """Tokens of prompt and answer so far; the last one is not yet in the cache."""
        return len(self.prompt) + len(self.tokens)

    def take(self, token: int, logprob: Logprob | None = None) -> None:
        """Append a sampled token; sets `reason` when it is the last one."""
        # First, as who streams an answer takes the log probabilities of the tokens that it sees.
        if logprob is not None:
            self.logprobs.append(logprob)
        self.tokens.append(token)
        self.sampling.note(token)
        self.text.push(self.vocabulary.raw[token])
        if token in self.eos_ids or self.text.stopped:
            self.finish("stop")
        elif len(self.tokens) >= self.max_new_tokens:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """End the answer; text that was held back comes out."""
        self.text.flush()
        self.reason = reason


@dataclass(eq=False)
class Generation:
    """One steering request: its answers, and what its caller may still do to it.

    The model thread writes the answers; other threads read them, and may set `cancelled`.
    """

    answers: list[Answer]
    exact: bool
    """Each answer runs in a batch of one."""
    timeout_s: float
    streamed: bool = False
    """Whether its caller wants to know of every token."""
    cancelled: bool = False
    request_id: str = field(default_factory=REQUEST_ID.get)
    problem: Problem | None = None
    submitted: float = field(default_factory=time.monotonic)
    """Monotonic seconds, as the three below."""
    joined: float | None = None
    first_token: float | None = None
    ended: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens that its answers may have in the end, those of their prompts included."""
        return sum(len(answer.prompt) + answer.max_new_tokens for answer in self.answers)

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.problem is not None or all(answer.is_over for answer in self.answers)

    def fail(self, problem: Problem) -> None:
        """Record why there will be no answer; the first reason stays."""
        self.problem = self.problem or problem

    def settle(self, now: float) -> bool:
        """Take note of a caller that left and of time that is over; True once, at the end."""
        if self.cancelled:
            self._cancel()
        elif not self.finished and now - self.submitted > self.timeout_s:
            self.fail(
                Unavailable(
                    f"The answer was not complete within {self.timeout_s:g} s; ask for fewer "
                    "tokens, or try again when fewer requests are running."
                )
            )
        if not self.finished or self.ended is not None:
            return False
        self.ended = now
        return True

    def _cancel(self) -> None:
        for answer in self.answers:
            answer.wants_receipt = False
            if answer.reason is None:
                answer.finish("cancelled")
