"""Jobs as the API and the CLI see them: submitted to DBOS, read back from it.

A job is a DBOS workflow; its id is the workflow's. Its state, specification, result and error come
from DBOS' tables, its progress from the shelf, where the worker reports it about twice a second.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from dbos import (
    DBOS,
    DBOSClient,
    DBOSPortableJSONSerializer,
    EnqueueOptions,
    PortableWorkflowError,
    WorkflowStatus,
)
from dbos import error as dbos_errors
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.contract.jobs import FINAL, JobSpec, JobState, JobView
from app.contract.queues import APPLICATION, MAX_STARTS, QUEUE_OF_KIND, STATES, VERSION
from app.errors import Conflict, NotFound, Problem
from app.news import News
from app.store import pages, progress
from app.store.engine import POOL, Shelf, autocommitting, connected, jobs_engine, transacting
from app.store.progress import CHANNEL, JobProgress

KINDS = list(QUEUE_OF_KIND)
log = logging.getLogger(__name__)
_AWAY = (OperationalError, InterfaceError, PoolTimeout)
JobPage = tuple[list[JobView], str | None]
"""Jobs, and the cursor of the next page, None at the end."""


def migrate_jobs(jobs_url: str) -> None:
    """Create or update DBOS' tables. Safe when several processes call it at once."""
    if jobs_url.startswith("sqlite"):
        _use_wal(jobs_url)
    DBOS.migrate(jobs_url)
    if not jobs_url.startswith("sqlite"):
        _tell_changes(jobs_url)


def _tell_changes(jobs_url: str) -> None:
    """Have Postgres tell every change of a job's state, whichever process makes it. DBOS' tables are its
    own: where the trigger is missing, changes are seen later (`app.news`)."""
    with connected(autocommitting(jobs_url)) as connection:
        if connection.execute(text(_TRIGGER)).first():
            return
    try:
        with connected(transacting(jobs_url)) as connection:
            connection.execute(text(_TELL))
    except OperationalError as error:  # others write jobs all the time; the next start tries again
        log.warning("Changes of jobs are looked for, not told: %s", error.orig)


_TRIGGER = """
    SELECT FROM pg_trigger
    WHERE tgname = 'saescope_job_changed' AND tgrelid = 'dbos.workflow_status'::regclass
"""
_TELL = f"""
    SET LOCAL lock_timeout = '2s';
    SELECT pg_advisory_xact_lock(hashtext('{CHANNEL}'));
    CREATE OR REPLACE FUNCTION dbos.saescope_job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('{CHANNEL}', coalesce(NEW.workflow_uuid, OLD.workflow_uuid));
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER saescope_job_changed
    AFTER INSERT OR DELETE OR UPDATE OF status ON dbos.workflow_status
    FOR EACH ROW EXECUTE FUNCTION dbos.saescope_job_changed();
"""


def _use_wal(jobs_url: str) -> None:
    """Let readers poll while the worker writes; SQLite remembers it in the file."""
    with connected(autocommitting(jobs_url)) as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))


class Jobs:
    """Submits jobs and answers about them. Methods block; call them from threads in async code."""

    def __init__(self, jobs_url: str, shelf: Shelf, pool: int = POOL) -> None:
        migrate_jobs(jobs_url)
        self._shelf = shelf
        self._news = News(jobs_url, shelf.name)
        self._engine = jobs_engine(jobs_url, f"{shelf.name} jobs", pool)
        self._client = DBOSClient(
            system_database_url=jobs_url,
            system_database_engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        """Give the database connections back."""
        self._client.destroy()
        if self._engine:
            self._engine.dispose()

    def submit(self, spec: JobSpec, idempotency_key: str | None = None) -> JobView:
        """Queue a job. The same key answers with the job that it first made; with another
        specification it is a `Conflict`."""
        while True:
            job_id = progress.add_job(self._shelf, secrets.token_hex(8), idempotency_key)
            # The job was deleted meanwhile? Its id must not be used again: files may bear it.
            with progress.kept(self._shelf, job_id) as is_there:
                if is_there:
                    self._enqueue(job_id, spec)
                    return self.get(job_id)

    def _enqueue(self, job_id: str, spec: JobSpec) -> None:
        """Queue a job, unless it was queued before."""
        body = spec.model_dump(mode="json")
        options: EnqueueOptions = {
            "workflow_name": spec.kind,
            "queue_name": QUEUE_OF_KIND[spec.kind],
            "workflow_id": job_id,
            "workflow_id_reuse_policy": "reject",
            "app_version": VERSION,
        }
        try:
            self._client.enqueue(options, body)
        except dbos_errors.DBOSWorkflowIDInUseError:
            if self.get(job_id).spec != body:
                raise Conflict(
                    "This Idempotency-Key was already used for another job; send a new key.",
                    job=job_id,
                ) from None

    def get(self, job_id: str) -> JobView:
        """The job as it stands; `NotFound` when there is none of this id."""
        found = self._client.list_workflows(workflow_ids=[job_id], name=KINDS)
        if not found:
            raise NotFound(f"There is no job {job_id}.", job=job_id)
        return _views(self._shelf, found)[0]

    def list(
        self,
        limit: int = 50,
        cursor: str | None = None,
        state: JobState | None = None,
        kind: str | None = None,
    ) -> JobPage:
        """A page of jobs, newest first.

        A cursor holds the last page's oldest creation time and the ids already shown that were
        created in that millisecond, so that no job is skipped or shown twice.
        """
        pages.check_limit(limit)
        key = ["jobs", state, kind]
        before, shown = pages.decode(cursor, key, (int, list)) if cursor is not None else (None, [])
        found = self._client.list_workflows(
            name=kind or KINDS,
            status=[status for status, name in STATES.items() if state in (None, name)],
            end_time=_instant(before) if before is not None else None,
            limit=limit + 1 + len(shown),
            sort_desc=True,
        )
        fresh = [status for status in found if status.workflow_id not in shown]
        page = fresh[:limit]
        items = _views(self._shelf, page)
        if len(fresh) <= limit:
            return items, None
        last = page[-1].created_at
        told = [status.workflow_id for status in page if status.created_at == last]
        told += shown if before == last else []
        return items, pages.encode(key, [last, told])

    def cancel(self, job_id: str) -> JobView:
        """Stop a job that has not ended; what it has committed stays. Again is no error."""
        state = self.get(job_id).state
        if state in ("done", "failed"):
            raise Conflict(f"The job is {state} already and cannot be cancelled.", job=job_id)
        self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def retry(self, job_id: str) -> JobView:
        """Queue a failed or cancelled job again; it goes on from its committed units."""
        view = self.get(job_id)
        if view.state not in ("failed", "cancelled"):
            raise Conflict(
                f"The job is {view.state}; only failed and cancelled jobs can be retried.",
                job=job_id,
            )
        try:
            self._client.rewind_workflow(
                job_id, application_version=VERSION, queue_name=QUEUE_OF_KIND[view.kind]
            )
        except dbos_errors.DBOSException:
            raise Conflict("The job's state has just changed; look again.", job=job_id) from None
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended; `saescope gc` removes its files."""
        state = self.get(job_id).state
        if state not in FINAL:
            raise Conflict(f"The job is {state}; cancel it first.", job=job_id)
        # First: a key must not lead to a job that is gone.
        progress.delete_progress(self._shelf, job_id)
        self._client.delete_workflow(job_id)

    async def events(self, job_id: str) -> AsyncGenerator[JobView, None]:
        """Every change of a job as it is seen, until it has ended or was deleted.

        Raises `NotFound` before the first view when there is no such job.
        """
        with self._news.of(job_id) as changed:
            view = await asyncio.to_thread(self.get, job_id)
            yield view
            while view.state not in FINAL:
                await self._news.wait(changed)
                try:
                    latest = await asyncio.to_thread(self.get, job_id)
                except NotFound:
                    return
                except _AWAY:
                    continue
                if latest != view:
                    view = latest
                    yield view


def _views(shelf: Shelf, found: list[WorkflowStatus]) -> list[JobView]:
    reports = progress.get_progress(shelf, [status.workflow_id for status in found])
    return [_view(status, reports.get(status.workflow_id)) for status in found]


def _view(status: WorkflowStatus, report: JobProgress | None) -> JobView:
    state = STATES[status.status]
    created, updated = _time(status.created_at), _time(status.updated_at)
    view = JobView(
        id=status.workflow_id,
        kind=status.name,
        state=state,
        spec=_spec(status),
        progress=1.0 if state == "done" else 0.0,
        error=_error(status) if state == "failed" else None,
        result=status.output if state == "done" else None,
        created_at=created,
        updated_at=updated,
    )
    if report is None or state == "queued":
        return view
    view.metrics = report.metrics
    view.updated_at = max(updated, report.updated_at or updated)
    if state != "done":
        view.progress, view.phase = report.done, report.phase
    if state == "running":
        view.rate, view.eta = report.rate, report.eta
    return view


def _spec(status: WorkflowStatus) -> dict[str, Any]:
    return status.input["args"][0] if status.input else {}


def _error(status: WorkflowStatus) -> dict[str, Any]:
    """The problem that ended a job; the worker puts it into the error's data."""
    if status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return Problem(
            f"A jobs worker ended under this job {MAX_STARTS} times, so it is not started again; the "
            "workers' logs may say why. A retry starts it anew."
        ).body()
    error = status.error
    if isinstance(error, PortableWorkflowError) and isinstance(error.data, dict):
        return dict(error.data)
    return Problem(f"The job ended with an unexpected error: {error}").body()


def _instant(milliseconds: int) -> str:
    """ISO time half a millisecond later: DBOS parses it as a float and cuts."""
    try:
        return datetime.fromtimestamp((milliseconds + 0.5) / 1000, UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # no list made a cursor with such a time
        raise pages.refused() from None


def _time(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
