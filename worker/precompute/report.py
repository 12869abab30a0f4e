"""What a call of `precompute` did, how long its steps took, and how far it is."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.progress import Progress


@dataclass
class Report:
    """What a call of `precompute` did."""

    tokens: int = 0
    """Tokens of the corpus that count."""
    entries: dict[str, int] = field(default_factory=dict)
    """Active (token, feature) pairs of each dictionary."""
    sampled: dict[str, int] = field(default_factory=dict)
    """Tokens on which co-activity of each dictionary's features was counted."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time in each step: forecast, tokens, corpus, sample, weights, coactive, evidence, commit."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the time inside towards a step."""
        started = time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - started


class Meter:
    """Progress of a phase of which only `left` of `total` units are still to do."""

    def __init__(self, progress: Progress, phase: str, total: int, left: int) -> None:
        self._progress, self._phase, self._total = progress, phase, total
        self._before = self._done = total - left
        self._started = time.perf_counter()
        self._progress(phase, float(self._done), float(total))

    def add(self, units: int, metrics: dict[str, float] | None = None) -> None:
        """Report more units done; the rate is that of this call of `precompute`."""
        self._done += units
        rate = (self._done - self._before) / max(time.perf_counter() - self._started, 1e-9)
        self._progress(self._phase, float(self._done), float(self._total), rate, metrics)
