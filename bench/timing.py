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


def ratio(repeats: int, one: Callable[[], Run], other: Callable[[], Run]) -> float:
    """Median over turns of the time of `one` over that of `other`, which run side by side and take
    turns in being first: what is slow for a while is slow for both."""
    ratios = []
    for turn in range(repeats + 1):
        order = (one, other) if turn % 2 else (other, one)
        taken = {prepare: seconds_of(prepare()) for prepare in order}
        if turn:
            ratios.append(taken[one] / taken[other])
    return statistics.median(ratios)


def _timed(run: Run) -> Timing:
    started = time.perf_counter()
    done = run()
    seconds = time.perf_counter() - started
    return Timing(seconds, (done if isinstance(done, (int, float)) else 1) / seconds)


def seconds_of(run: Run) -> float:
    """How long it takes."""
    return _timed(run).seconds
