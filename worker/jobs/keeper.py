"""Keeps this worker's lease, takes over the jobs of workers whose lease ran out, and gives back to the
queues what is this worker's own in DBOS' tables and not in its hands.

DBOS itself recovers only what its own executor left, at the start. What it does then with each job is
done here: the job goes back into its queue, with the starts that it has had, and any living worker
takes it from there. It is DBOS' only call that leaves those alone that were cancelled or moved on
meanwhile; `resume_workflow`, which is public, wakes them and forgets the starts.

Everything goes through the client, which does not wait for a database that is away: the lease has to
be renewed by the next turn.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbos import DBOSClient, WorkflowStatus
from dbos import error as dbos_errors
from sqlalchemy.exc import InterfaceError, OperationalError

from app.contract.queues import QUEUE_OF_KIND
from app.store import leases
from app.store.engine import Shelf
from app.store.leases import Lease, Standing

log = logging.getLogger("saescope.jobs")

RENEWALS = 5
"""In the time that a lease lasts."""


@dataclass(frozen=True, eq=False)
class Start:
    """A job that is being done, and under which lease."""

    job_id: str
    lease: Lease


class Keeper:
    """Renews a lease from a thread of its own. `lease` is the one that jobs are begun under."""

    def __init__(self, shelf: Shelf, client: DBOSClient, lease: Lease) -> None:
        self.lease = lease
        self._shelf, self._client = shelf, client
        self._starts: set[Start] = set()
        self._orphans: set[tuple[str, int | None]] = set()
        self._let_go = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    @contextmanager
    def at_work(self, job_id: str) -> Iterator[Lease]:
        """The lease under which a job is done inside the block."""
        start = Start(job_id, self.lease)
        self._starts.add(start)
        try:
            yield start.lease
        except dbos_errors.DBOSWorkflowCancelledError:
            # Perhaps the lease was taken; then the next job would be begun in vain.
            self._let_go.set()
            raise
        finally:
            self._starts.discard(start)

    def _keep(self) -> None:
        while True:
            early = self._let_go.wait(self.lease.seconds / RENEWALS)
            self._let_go.clear()
            try:
                self.turn()
                if not early:
                    self.give_back()
            except (OperationalError, InterfaceError) as error:
                log.warning(
                    "The lease is not renewed: the database does not answer (%s)", error.orig
                )
            except Exception:
                log.exception("The lease is not renewed")

    def turn(self) -> None:
        """Renew the lease; take jobs over when others had the time to renew theirs as well."""
        standing = leases.renew(self._shelf, self.lease)
        if standing is Standing.SETTLED:
            self._take_over()
        elif standing is Standing.TAKEN:
            log.warning("This worker was silent for too long, and others have its jobs now.")
            self.lease = leases.acquire(self._shelf, self.lease.worker, self.lease.seconds)
        elif standing is Standing.ANOTHERS:
            log.error(
                "Another jobs worker has started as %s, so this one ends; give each machine a "
                "SAESCOPE_WORKER_NAME of its own.",
                self.lease.worker,
            )
            os._exit(1)

    def _take_over(self) -> None:
        running = self._running(kinds=list(QUEUE_OF_KIND))
        busy = {one.executor_id for one in running if one.executor_id} - {self.lease.worker}
        if not busy:
            return
        with leases.taking_over(self._shelf, busy) as gone:
            for one in running:
                if one.executor_id in gone and self._queue_again(one):
                    log.warning("Job %s is taken over from %s", one.workflow_id, one.executor_id)

    def give_back(self) -> None:
        """Queue again what DBOS' tables say that this worker does, and it does not, twice in a row:
        the answer to a claim was lost, a start failed, or was made under a lease that was taken."""
        running = self._running(worker=self.lease.worker)
        at_work = {start.job_id for start in list(self._starts) if start.lease == self.lease}
        orphans = {_start_of(one): one for one in running if one.workflow_id not in at_work}
        for start in orphans.keys() & self._orphans:
            log.warning("Job %s was begun by nobody, and is queued again", start[0])
            self._queue_again(orphans[start])
        self._orphans = set(orphans)

    def _running(
        self, worker: str | None = None, kinds: list[str] | None = None
    ) -> list[WorkflowStatus]:
        return self._client.list_workflows(
            status="PENDING", executor_id=worker, name=kinds, load_input=False, load_output=False
        )

    def _queue_again(self, job: WorkflowStatus) -> bool:
        """Whether it was still that worker's."""
        if job.name not in QUEUE_OF_KIND:
            # A later version's: where nobody knows the kind, nothing is started, and nothing counts.
            self._client.resume_workflow(job.workflow_id, queue_name=job.queue_name)
            return True
        queue, worker = QUEUE_OF_KIND[job.name], job.executor_id or ""
        return self._client._sys_db.reenqueue_for_recovery(job.workflow_id, [worker], queue)


def _start_of(job: WorkflowStatus) -> tuple[str, int | None]:
    return job.workflow_id, job.dequeued_at
