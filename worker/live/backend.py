"""What the model thread asks of a generation backend, so that others can follow."""

from typing import Protocol, runtime_checkable

from app.errors import Problem
from worker.live.answer import Generation


@runtime_checkable
class Engine(Protocol):
    """What the model thread asks of a generation backend."""

    @property
    def max_len(self) -> int:
        """Tokens of prompt and answer together that a row holds."""
        ...

    @property
    def rows(self) -> int:
        """Rows that the batch can have."""
        ...

    @property
    def running(self) -> int:
        """Rows in the batch."""
        ...

    @property
    def waiting(self) -> int:
        """Answers that have not joined."""
        ...

    @property
    def waiting_tokens(self) -> int:
        """Tokens of their prompts."""
        ...

    @property
    def generated(self) -> int:
        """Tokens sampled so far, of all answers."""
        ...

    def submit(self, generation: Generation) -> None:
        """Queue a generation that was checked beforehand."""
        ...

    def step(self) -> set[Generation]:
        """Advance every row; return the generations that changed."""
        ...

    def abort(self, problem: Problem) -> set[Generation]:
        """Fail everything that runs or waits; return what changed."""
        ...
