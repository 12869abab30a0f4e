"""How far each job is, and who wants it to stop. One small row a job, replaced as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import delete, select

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
    cancel_requested: bool = False
    updated_at: datetime | None = None


def put_progress(
    shelf: Shelf,
    job_id: str,
    phase: str | None,
    done: float,
    rate: float | None = None,
    eta: float | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """Report how far a job is. About once a second is often enough."""
    _put(shelf, job_id, phase=phase, done=done, rate=rate, eta=eta, metrics=metrics or {})


def get_progress(shelf: Shelf, job_ids: Sequence[str]) -> dict[str, JobProgress]:
    """Reports by job id; jobs that never reported are left out."""
    query = select(job_progress).where(job_progress.c.job_id.in_(job_ids))
    with shelf.read() as connection:
        rows = connection.execute(query)
        return {row.job_id: JobProgress(**row._mapping) for row in rows}


def request_cancel(shelf: Shelf, job_id: str) -> None:
    """Ask a job to stop at its next safe point."""
    _put(shelf, job_id, cancel_requested=True)


def clear_cancel(shelf: Shelf, job_id: str) -> None:
    """Take the request back, before the job is tried again."""
    _put(shelf, job_id, cancel_requested=False)


def cancel_requested(shelf: Shelf, job_id: str) -> bool:
    """Whether somebody asked the job to stop."""
    found = get_progress(shelf, [job_id]).get(job_id)
    return found is not None and found.cancel_requested


def delete_progress(shelf: Shelf, job_id: str) -> None:
    """Forget a job. What it left in the data folder is collected later."""
    with shelf.write() as connection:
        connection.execute(delete(job_progress).where(job_progress.c.job_id == job_id))


def _put(shelf: Shelf, job_id: str, **values: object) -> None:
    values["updated_at"] = datetime.now(UTC)
    fresh = {"job_id": job_id, "done": 0.0, "metrics": {}, "cancel_requested": False}
    with shelf.write() as connection:
        connection.execute(
            shelf.insert(job_progress)
            .values(fresh | values)
            .on_conflict_do_update(index_elements=["job_id"], set_=values)
        )
