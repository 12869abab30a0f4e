"""Kinds of work timed in turns, so that each of them sees the same machine."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Timing(NamedTuple):
    """Of one kind of work, over its turns."""

    seconds: float
    """Median."""
    rate: float
    """Median of what was done a second."""


Run = Callable[[], object]
"""What is timed. What it returns is how much it did, where that is a number."""


def in_turns(repeats: int, work: dict[str, Callable[[], Run]]) -> dict[str, Timing]:
    """Time each kind of work once a turn; the first turn does not count.

    `work` prepares a turn, untimed, and gives what is timed.
    """
    taken: dict[str, list[Timing]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, prepare in work.items():
            one = _timed(prepare())
            if turn:
                taken[name].append(one)
    return {
        name: Timing(*(statistics.median(numbers) for numbers in zip(*of, strict=True)))
        for name, of in taken.items()
    }


def _timed(run: Run) -> Timing:
    started = time.perf_counter()
    done = run()
    seconds = time.perf_counter() - started
    return Timing(seconds, (done if isinstance(done, (int, float)) else 1) / seconds)


def seconds_of(run: Run) -> float:
    """How long it takes."""
    return _timed(run).seconds
