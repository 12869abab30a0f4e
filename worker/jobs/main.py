"""The process: `python -m worker.jobs.main [--index N]`, one for each of `JOBS_DEVICES`.

At the start DBOS queues again what this worker (its executor id) left running when it died.
SIGTERM ends it at once, like a kill: what is committed is enough to go on from.
"""

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    PortableWorkflowError,
)
from sqlalchemy import Engine
from transformers.utils.logging import disable_progress_bar

from app import logs
from app.contract.queues import APPLICATION, QUEUE_OF_KIND, VERSION, executor_id
from app.errors import Problem, Unavailable
from app.settings import Settings, writable
from app.store import leases
from app.store.engine import jobs_engine, open_shelf
from app.store.leases import LEASE_S
from app.store.migrate import migrate
from worker.jobs.away import waiting_out
from worker.jobs.catalog import keep_catalog
from worker.jobs.job import Bench, device_of
from worker.jobs.keeper import Keeper
from worker.jobs.workflows import register
from worker.train.run import CHECKPOINT_SECONDS

log = logging.getLogger("saescope.jobs")

NICE = 10
QUEUE_POLL_S = 0.5
LOCK_PATIENCE_S = 1.0
"""Commands that ask whether a worker runs hold its lock for a moment."""


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="saescope worker jobs", description="Runs jobs.")
    parser.add_argument("--index", type=int, default=0, help="which of SAESCOPE_JOBS_DEVICES")
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=CHECKPOINT_SECONDS,
        help="seconds of training that a crash may cost",
    )
    parser.add_argument(
        "--lease-seconds",
        type=float,
        default=LEASE_S,
        help="seconds of silence after which workers of other machines run this one's jobs",
    )
    told = parser.parse_args()
    settings = Settings()
    logs.set_up("jobs", settings)
    _quiet()
    try:
        lock = claim(settings, told.index)
        start(settings, told.index, told.checkpoint_seconds, told.lease_seconds)
    except Problem as problem:
        sys.exit(f"saescope: {problem.detail}")
    _wait_for_signal()
    lock.close()
    os._exit(0)


def _quiet() -> None:
    """Nothing is said twice, and no bars are drawn."""
    # A job's failure is told by `workflows`; DBOS would add sixty lines of its own insides.
    logging.getLogger("dbos").addFilter(lambda record: not _is_failed_job(record))
    disable_progress_bar()


def _is_failed_job(record: logging.LogRecord) -> bool:
    return bool(record.exc_info) and isinstance(record.exc_info[1], PortableWorkflowError)


def claim(settings: Settings, index: int) -> IO[str]:
    """Be the only jobs worker of this number on this data folder, for as long as it is open."""
    if not writable(settings.data_dir):
        raise Unavailable(f"The data folder {settings.data_dir} cannot be written to.")
    worker = executor_id(settings.machine, index)
    lock = (settings.data_dir / f"{worker}.lock").open("w")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"A jobs worker {worker} already serves the data folder {settings.data_dir}. "
                    + "On another machine, set SAESCOPE_WORKER_NAME." * bool(settings.machine)
                ) from None
        time.sleep(0.1)


def give_way() -> None:
    """Let everything else on this CPU go first."""
    os.nice(NICE)
    # With the kernel's autogroups a nice value counts only within a session, so the session's own
    # has to be set too; a process that `saescope up` started leads one.
    autogroup = Path("/proc/self/autogroup")
    if autogroup.exists() and os.getsid(0) == os.getpid():
        autogroup.write_text(str(NICE))


def start(settings: Settings, index: int, checkpoint_seconds: float, lease_seconds: float) -> None:
    """Take the lease, register the workflows, launch DBOS and listen to the queues."""
    migrate(settings.shelf_url)
    device = device_of(settings, index)
    if device.type == "cpu":
        give_way()
    worker, pool = executor_id(settings.machine, index), settings.database_pool
    engine = jobs_engine(settings.jobs_url, f"saescope {worker} dbos", pool)
    DBOS(config=_config(settings, worker, engine))
    client = DBOSClient(
        system_database_url=settings.jobs_url,
        system_database_engine=jobs_engine(settings.jobs_url, f"saescope {worker} turns", pool),
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )
    shelf = open_shelf(settings.shelf_url, f"saescope {worker}", pool)
    # First: DBOS begins with what this worker left running.
    lease = waiting_out(lambda: leases.acquire(shelf, worker, lease_seconds))
    keeper = Keeper(shelf, client, lease)
    register(Bench(settings, shelf, device, checkpoint_seconds), client, keeper)
    DBOS.launch()
    keeper.start()
    for queue in sorted(set(QUEUE_OF_KIND.values())):
        DBOS.register_queue(
            queue,
            worker_concurrency=1,
            polling_interval_sec=QUEUE_POLL_S,
            on_conflict="always_update",
        )
    if index == 0:
        keep_catalog(shelf)
    log.info("Waiting for jobs on %s", device)


def _config(settings: Settings, worker: str, engine: Engine | None) -> DBOSConfig:
    return {
        "name": APPLICATION,
        "system_database_url": settings.jobs_url,
        "system_database_engine": engine,
        "executor_id": worker,
        "application_version": VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "ERROR",
        "enable_otlp": False,
    }


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass


if __name__ == "__main__":
    main()
