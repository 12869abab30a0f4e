"""How long work reports itself, and how it is told to stop."""

from typing import Protocol, runtime_checkable


class Cancelled(Exception):
    """The job was cancelled; what is committed stays."""


@runtime_checkable
class Progress(Protocol):
    """Called often; throttling is the receiver's business. May raise `Cancelled`."""

    def __call__(
        self,
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Report `done` of `total` units of a phase; `rate` in units a second."""
        ...


def silent(
    phase: str,
    done: float,
    total: float,
    rate: float | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """A `Progress` for callers that do not watch."""
