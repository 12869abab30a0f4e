"""What the worker takes on at a time: so much, and who comes when it is full is told when to come again.

Without it a queue would grow until all in it have run out of time. Numbers are taken on any thread.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooLarge, TooMany

RATE_S = 30.0
"""Seconds behind us in which is measured how fast things end."""
MOST_WAIT_S = 60
"""Seconds after which anybody may ask again."""


class Budget:
    """An amount of something that may be under way at once."""

    def __init__(self, limit: int, what: str, setting: str) -> None:
        """`what` is counted, up to the `limit` that `setting` gives."""
        self.limit = limit
        self._what = what
        self._setting = setting
        self._lock = threading.Lock()
        self._taken = 0
        self._ended: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        """When something ended, and how much it was."""

    @property
    def taken(self) -> int:
        """What is under way."""
        return self._taken

    def take(self, amount: int) -> None:
        """Take something on. Raises TooLarge where it could never be, TooMany where it cannot be now."""
        if amount > self.limit:
            raise TooLarge(
                f"This needs {amount:,} {self._what}; all requests of a moment together may need "
                f"{self.limit:,} ({self._setting}). Ask for less at once."
            )
        with self._lock:
            excess = self._taken + amount - self.limit
            if excess > 0:
                raise TooMany(
                    f"The live worker has as much to do as it takes on at a time: {self._taken:,} "
                    f"{self._what}, of {self.limit:,} ({self._setting}), and this needs {amount:,}. "
                    "Ask again later.",
                    self._seconds_for(excess),
                )
            self._taken += amount

    def give_back(self, amount: int) -> None:
        """What was taken on has ended."""
        with self._lock:
            self._taken -= amount
            self._ended.append((time.monotonic(), amount))
            while len(self._ended) > 1 and self._ended[0][0] < self._ended[-1][0] - RATE_S:
                self._ended.popleft()

    @contextmanager
    def holding(self, amount: int) -> Iterator[None]:
        """Take something on for as long as this is open."""
        self.take(amount)
        try:
            yield
        finally:
            self.give_back(amount)

    @contextmanager
    def open_tab(self) -> Iterator["Tab"]:
        """For something that is only known piece by piece; all of it is given back in the end."""
        tab = Tab(self)
        try:
            yield tab
        finally:
            tab.close()

    def _seconds_for(self, amount: int) -> int:
        """Whole seconds until so much has ended, at the rate of late."""
        span = max(time.monotonic() - self._ended[0][0], 0.1)
        rate = sum(ended for _, ended in self._ended) / span
        return max(1, math.ceil(min(amount / rate, MOST_WAIT_S))) if rate else 1


class Tab:
    """What one request has taken so far. Whoever adds may be late: its caller is gone then."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._taken = 0
        self._closed = False

    def add(self, amount: int) -> None:
        """Take more. Raises TooMany and TooLarge as the budget does."""
        with self._lock:
            if not self._closed:
                self._budget.take(amount)
                self._taken += amount

    def close(self) -> None:
        """Give all of it back."""
        with self._lock:
            self._closed = True
            self._budget.give_back(self._taken)
