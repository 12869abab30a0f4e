"""How far each job is: one small row a job, from before it is queued until it is deleted.

The row also holds the key under which the job was submitted, so that the same request, sent again,
finds it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select, update

from app.store.engine import Shelf
from app.store.tables import job_progress


@dataclass(frozen=True)
class JobProgress:
    """A job as it last reported."""

    job_id: str
    phase: str | None = None
    done: float = 0.0
    """Share of the whole job, 0 to 1."""
    rate: float | None = None
    """Tokens or features a second in this phase."""
    eta: float | None = None
    """Seconds left in this phase."""
    metrics: dict[str, float] = field(default_factory=dict)
    updated_at: datetime | None = None


CHANNEL = "saescope_jobs"
"""Where Postgres tells ids of jobs that have changed (`app.news`)."""

_COLUMNS = [job_progress.c[one.name] for one in fields(JobProgress)]


def add_job(shelf: Shelf, job_id: str, key: str | None = None) -> str:
    """Make room for a job; its id, which is an earlier job's when the key is in use."""
    row = {
        "job_id": job_id,
        "idempotency_key": key,
        "done": 0.0,
        "metrics": {},
        "updated_at": _now(),
    }
    added = (
        shelf.insert(job_progress)
        .values(row)
        # Changes nothing, but gives the row back.
        .on_conflict_do_update(index_elements=["idempotency_key"], set_={"idempotency_key": key})
        .returning(job_progress.c.job_id)
    )
    with shelf.write() as connection:
        return connection.execute(added).scalar_one()


@contextmanager
def kept(shelf: Shelf, job_id: str) -> Iterator[bool]:
    """Whether there is such a job; nobody deletes it meanwhile."""
    query = select(job_progress.c.job_id).where(job_progress.c.job_id == job_id)
    with shelf.write() as connection:
        yield connection.execute(query.with_for_update()).first() is not None


def put_progress(
    shelf: Shelf,
    job_id: str,
    phase: str | None,
    done: float,
    rate: float | None = None,
    eta: float | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """Report how far a job is; of a job that was deleted nothing is kept.

    About once a second is often enough.
    """
    values: dict[str, Any] = {"phase": phase, "done": done, "rate": rate, "eta": eta}
    values |= {"metrics": metrics or {}, "updated_at": _now()}
    with shelf.write() as connection:
        row = update(job_progress).where(job_progress.c.job_id == job_id)
        connection.execute(row.values(values))
        if not shelf.is_sqlite:
            connection.execute(select(func.pg_notify(CHANNEL, job_id)))


def get_progress(shelf: Shelf, job_ids: Sequence[str]) -> dict[str, JobProgress]:
    """Progress by job id."""
    query = select(*_COLUMNS).where(job_progress.c.job_id.in_(job_ids))
    with shelf.read() as connection:
        return {row.job_id: JobProgress(**row._mapping) for row in connection.execute(query)}


def delete_progress(shelf: Shelf, job_id: str) -> None:
    """Forget a job and free its key. What it left in the data folder is collected later."""
    with shelf.write() as connection:
        connection.execute(delete(job_progress).where(job_progress.c.job_id == job_id))


def _now() -> datetime:
    return datetime.now(UTC)
