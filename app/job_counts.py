"""How many jobs there are by kind and state, counted in DBOS' table by one statement.

Without DBOS' client: importing it takes longer than the rest of the API's start, and metrics are asked
for from the first seconds on.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import get_args

from sqlalchemy import Engine, case, column, func, select, table
from sqlalchemy.exc import SQLAlchemyError

from app.contract.jobs import JobState
from app.contract.queues import QUEUE_OF_KIND, STATES
from app.store.engine import autocommitting

PATIENCE_S = 2.0
_SCHEMA = "dbos"
"""Of DBOS' tables on Postgres."""


@dataclass(frozen=True)
class Counted:
    """The jobs at one moment."""

    jobs: Mapping[tuple[str, JobState], int]
    """By kind and state, all of which are there."""
    oldest_queued_s: float
    """Seconds since the first of those that wait was queued; 0 when none waits."""


class JobCounts:
    """Counts jobs, for as long as it is open."""

    def __init__(self, jobs_url: str) -> None:
        self._url = jobs_url

    @cached_property
    def _engine(self) -> Engine:
        return autocommitting(self._url)

    async def now(self) -> Counted | None:
        """The jobs there are; None where nobody can tell within `PATIENCE_S`."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.to_thread(self._count)
        except (SQLAlchemyError, TimeoutError):
            return None

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()

    def _count(self) -> Counted:
        kinds_and_states = product(QUEUE_OF_KIND, get_args(JobState))
        jobs: dict[tuple[str, JobState], int] = dict.fromkeys(kinds_and_states, 0)
        oldest: list[int] = []
        for kind, status, n, since in self._rows():
            jobs[kind, STATES[status]] += n
            oldest += [since] if since is not None else []
        now_ms = time.time() * 1e3
        return Counted(jobs, max(0.0, now_ms - min(oldest)) / 1e3 if oldest else 0.0)

    def _rows(self) -> list[tuple[str, str, int, int | None]]:
        """(kind, status, number, when the first that waits was queued in ms)."""
        is_file = self._engine.dialect.name == "sqlite"
        if is_file and not Path(self._engine.url.database or "").exists():
            return []  # nobody has had a job yet, and asking would make the file
        name, status, queued = column("name"), column("status"), column("updated_at")
        jobs = table("workflow_status", name, status, queued, schema=None if is_file else _SCHEMA)
        waiting = [one for one, state in STATES.items() if state == "queued"]
        query = (
            select(name, status, func.count(), func.min(case((status.in_(waiting), queued))))
            .select_from(jobs)
            .where(name.in_(list(QUEUE_OF_KIND)))
            .group_by(name, status)
        )
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]
