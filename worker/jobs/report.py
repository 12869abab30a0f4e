"""How far a job is, for whoever watches, and whether it was told to stop.

A job runs through phases; each is a share of the whole bar. Rows are written, and the job's state
is read, about twice a second, however often the work reports.
"""

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import InterfaceError, OperationalError

from app.store.engine import Shelf
from app.store.progress import put_progress
from worker.progress import Cancelled

log = logging.getLogger("saescope.jobs")

EVERY_S = 0.5

SHARES: dict[str, dict[str, tuple[float, float]]] = {
    "load": {"copy": (0.0, 0.5), "open": (0.5, 1.0)},
    "train": {
        "open": (0.0, 0.02),
        "tokenize": (0.02, 0.07),
        "train": (0.07, 0.93),
        "evaluate": (0.93, 1.0),
    },
    "precompute": {
        "open": (0.0, 0.02),
        "tokenize": (0.02, 0.07),
        "tokens": (0.07, 0.7),
        "features": (0.7, 0.93),
        "split": (0.93, 1.0),
    },
    "evaluate": {
        "open": (0.0, 0.05),
        "tokenize": (0.05, 0.1),
        "evaluate": (0.1, 0.7),
        "concepts": (0.7, 1.0),
    },
    "verify": {"open": (0.0, 0.1), "verify": (0.1, 1.0)},
    "import": {"read": (0.0, 0.4), "features": (0.4, 1.0)},
    "export": {"features": (0.0, 1.0)},
}
"""Where each phase begins and ends on the bar of a job, by kind."""


class Report:
    """The `Progress` of one job."""

    def __init__(
        self, shelf: Shelf, job_id: str, kind: str, still_ours: Callable[[], bool]
    ) -> None:
        self._shelf = shelf
        self._job_id = job_id
        self._shares = SHARES[kind]
        self._still_ours = still_ours
        self._phase = ""
        self._metrics: dict[str, float] = {}
        self._overall = 0.0
        self._written = 0.0
        self._looked = 0.0
        self._stop = False

    def __call__(
        self,
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Write what is new. Raises `Cancelled` when the job was."""
        if self._cancelled():
            raise Cancelled
        self._metrics.update(metrics or {})
        now = time.monotonic()
        if phase == self._phase and now - self._written < EVERY_S:
            return
        self._phase, self._written = phase, now
        begin, end = self._shares.get(phase, (self._overall, self._overall))
        fraction = min(1.0, done / total) if total else 0.0
        self._overall = max(self._overall, begin + (end - begin) * fraction)
        eta = (total - done) / rate if rate else None
        try:
            put_progress(self._shelf, self._job_id, phase, self._overall, rate, eta, self._metrics)
        except (OperationalError, InterfaceError) as error:
            log.warning("Progress is not told: the database does not answer (%s)", error.orig)

    def _cancelled(self) -> bool:
        """Whether the job is no longer this worker's to do; looks at most twice a second."""
        now = time.monotonic()
        if now - self._looked >= EVERY_S:
            self._looked = now
            self._stop = not self._still_ours()
        return self._stop
