"""A data folder and database of its own, with a real jobs worker that can be killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contract.jobs import FINAL, JobSpec, JobView
from app.jobs import Jobs
from app.settings import Settings
from app.store import catalog
from app.store.engine import open_shelf
from tests.databases import prepare
from tests.flow.service import clean_env
from tests.store.builders import catalog_entry
from worker.catalog import installed

PATIENCE_S = 400.0
idle_on_sqlite = pytest.mark.parametrize("idle", ["sqlite"], indirect=True)
"""For what no database has a part in."""


class Place:
    """Settings, jobs client and shelf, and the worker that serves them."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.folder = folder
        self.env = clean_env() | {
            "SAESCOPE_DATA_DIR": str(folder / "data"),
            "SAESCOPE_JOBS_DEVICES": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        if database_url:
            self.env["SAESCOPE_DATABASE_URL"] = database_url
        self.settings = Settings(
            data_dir=folder / "data", database_url=database_url, model_roots=[str(folder)]
        )
        self.settings.data_dir.mkdir()
        prepare(self.settings.shelf_url)
        self.shelf = open_shelf(self.settings.shelf_url)
        # So that a worker does not read it for every test; tests/flow has one that does.
        catalog.replace(self.shelf, installed(), [catalog_entry()])
        self.jobs = Jobs(self.settings.jobs_url, self.shelf)
        self.log = folder / "worker.log"
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self, *options: str) -> None:
        """Start `python -m worker.jobs.main` in `folder`; a checkpoint every half second."""
        command = [
            sys.executable,
            "-m",
            "worker.jobs.main",
            "--checkpoint-seconds",
            "0.5",
            *options,
        ]
        env = self.env | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with self.log.open("ab") as log:
            self._worker = subprocess.Popen(
                command, env=env, cwd=self.folder, stdout=log, stderr=log
            )

    def kill_worker(self, how: int = signal.SIGKILL) -> int:
        """Signal the worker; its exit code."""
        assert self._worker
        self._worker.send_signal(how)
        return self._worker.wait(30)

    def close(self) -> None:
        if self._worker and self._worker.poll() is None:
            self.kill_worker()
        self.jobs.close()
        self.shelf.close()

    def run(self, spec: JobSpec) -> JobView:
        """Submit a job and wait until it has ended."""
        return self.wait(self.jobs.submit(spec).id)

    def wait(
        self, job_id: str, until: Callable[[JobView], bool] = lambda view: view.state in FINAL
    ) -> JobView:
        """Wait until a job is as wanted; fails when it ends before, with the worker's log."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            view = self.jobs.get(job_id)
            if until(view):
                return view
            assert view.state not in FINAL, f"{view}\n{self.log.read_text()}"
            assert self._worker and self._worker.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"still {self.jobs.get(job_id)}\n{self.log.read_text()}")


def pid_exists(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
