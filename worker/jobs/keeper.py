"""Keeps this worker's lease, and takes over the jobs of workers whose lease ran out.

DBOS itself recovers only what its own executor left, at the start. What it does then is done here for
an executor that is gone: the jobs go back into their queues, with the starts that they have had, and
any living worker takes them from there. It is DBOS' only call that leaves those alone that were
cancelled or moved on meanwhile; `resume_workflow`, which is public, wakes them and forgets the starts.
"""

import logging
import os
import threading

from dbos import DBOS, DBOSClient
from sqlalchemy.exc import InterfaceError, OperationalError

from app.contract.queues import QUEUE_OF_KIND
from app.store import leases
from app.store.engine import Shelf
from app.store.leases import Lease, Standing

log = logging.getLogger("saescope.jobs")

RENEWALS = 5
"""In the time that a lease lasts."""


class Keeper:
    """Renews a lease from a thread of its own. `lease` is the one that jobs are begun under."""

    def __init__(self, shelf: Shelf, client: DBOSClient, lease: Lease) -> None:
        self.lease = lease
        self._shelf, self._client = shelf, client

    def start(self) -> None:
        """Begin. DBOS must have been launched."""
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(self.lease.seconds / RENEWALS):
            try:
                self.turn()
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
            self._begin_again()
        elif standing is Standing.ANOTHERS:
            log.error(
                "Another jobs worker has started as %s, so this one ends; give each machine a "
                "SAESCOPE_WORKER_NAME of its own.",
                self.lease.worker,
            )
            os._exit(1)

    def _take_over(self) -> None:
        running = self._client.list_workflows(
            status="PENDING", name=list(QUEUE_OF_KIND), load_input=False, load_output=False
        )
        busy = {one.executor_id for one in running if one.executor_id} - {self.lease.worker}
        if not busy:
            return
        with leases.taking_over(self._shelf, busy) as gone:
            for name in sorted(gone):
                for job in DBOS._recover_pending_workflows([name]):
                    log.warning("Job %s is taken over from %s", job.workflow_id, name)

    def _begin_again(self) -> None:
        """As at a start: what is under way here has lost its lease."""
        self.lease = leases.acquire(self._shelf, self.lease.worker, self.lease.seconds)
        DBOS._recover_pending_workflows([self.lease.worker])
