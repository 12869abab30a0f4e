"""Whose turn it is among requests that wait with several things each."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from worker.live.answer import Generation

T = TypeVar("T")
AT_A_TIME = 2
"""What a request gets in a turn: an answer and its baseline run side by side."""


def in_turns(waiting: Iterable[tuple[Generation, T]]) -> list[tuple[Generation, T]]:
    """In order of arrival, except that behind two of one request's come two of each other's: who
    waits with two, waits for two of a sweep and not for all of it."""
    rows = list(waiting)
    before: Counter[Generation] = Counter()
    turns: list[int] = []
    for generation, _ in rows:
        turns.append(before[generation] // AT_A_TIME)
        before[generation] += 1
    return [rows[place] for place in sorted(range(len(rows)), key=turns.__getitem__)]
