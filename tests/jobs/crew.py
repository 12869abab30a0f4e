"""Several jobs workers on one Postgres and one data folder, each as on a machine of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus
from sqlalchemy import select

from app.contract.jobs import FINAL, JobView
from app.contract.queues import APPLICATION
from app.store import leases, read
from app.store.tables import features, runs
from tests.jobs.place import Place

LEASE_S = 8.0
PATIENCE_S = 400.0


def until(happened: Callable[[], Any], why: Callable[[], str] = str) -> Any:
    """Wait until something is true; gives it back."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert time.monotonic() < deadline, f"never happened. {why()}"
        time.sleep(0.05)
    return found


class Crew:
    """Workers by the name of their machine."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._client = DBOSClient(
            system_database_url=place.settings.jobs_url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
        )

    def start(self, machine: str, lease_s: float = LEASE_S) -> None:
        """Start the worker of a machine; it is here once it holds its lease anew."""
        before = self._lease(machine)
        command = [sys.executable, "-m", "worker.jobs.main"]
        options = ["--checkpoint-seconds", "0.5", "--lease-seconds", str(lease_s)]
        env = self.place.env | {
            "SAESCOPE_WORKER_NAME": machine,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        with self.place.log.open("ab") as log:
            self.workers[machine] = subprocess.Popen(
                [*command, *options], env=env, cwd=self.place.folder, stdout=log, stderr=log
            )
        until(lambda: self._lease(machine) != before, self.place.log.read_text)

    def _lease(self, machine: str) -> object:
        found = [one for one in leases.all_workers(self.place.shelf) if one.name == of(machine)]
        return found[0].since if found else None

    def signal(self, machine: str, number: int) -> None:
        self.workers[machine].send_signal(number)
        if number == signal.SIGKILL:
            self.workers.pop(machine).wait(30)

    def status(self, job_id: str) -> WorkflowStatus:
        return self._client.list_workflows(workflow_ids=[job_id])[0]

    def who(self, job_id: str) -> str:
        """The machine that runs a job, once one does."""

        def running() -> str | None:
            status = self.status(job_id)
            assert status.status in ("ENQUEUED", "PENDING"), self.place.log.read_text()
            names = {of(machine): machine for machine in self.workers}
            return names.get(status.executor_id or "") if status.status == "PENDING" else None

        return until(running, self.place.log.read_text)

    def wait(self, job_id: str) -> JobView:
        """Until a job has ended."""
        get = self.place.jobs.get
        until(lambda: get(job_id).state in FINAL, self.place.log.read_text)
        return get(job_id)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait(30)
        self._client.destroy()


def of(machine: str) -> str:
    """Name of a machine's only worker."""
    return f"jobs-{machine}-0"


def evidence(place: Place, sae_id: str) -> list[tuple[Any, ...]]:
    """All that is stored of the served run's features, by index."""
    run = read.sae(place.shelf, "m", sae_id).run_id
    number = select(runs.c.number).where(runs.c.id == run).scalar_subquery()
    columns = [c for c in features.c if c.name not in ("id", "run")]
    with place.shelf.read() as connection:
        query = select(*columns).where(features.c.run == number).order_by(features.c.id)
        return [tuple(row) for row in connection.execute(query)]


def shards(place: Place) -> list[Path]:
    """Units of tokens that are complete."""
    found = place.settings.spill_dir.glob("*/*/*/")
    return [path for path in found if not path.name.startswith(".")]
