"""What a worker gives back to the queues, when it looks at its lease, and how it is seen from outside."""

import fcntl
import subprocess
import sys
from collections.abc import Callable

import pytest
from dbos import DBOSClient
from dbos import error as dbos_errors
from sqlalchemy import update

from app.contract.jobs import LoadSpec
from app.contract.queues import executor_id
from app.store import leases
from app.store.tables import workers
from tests.jobs.crew import until
from tests.jobs.place import Place
from tests.jobs.test_turn import take
from worker.jobs.keeper import Keeper


@pytest.fixture
def keeper(idle: Place, client: DBOSClient) -> Keeper:
    """Of the only worker, which renews its lease only when it has a reason to."""
    return Keeper(idle.shelf, client, leases.acquire(idle.shelf, executor_id("", 0), 1e6))


def lose(place: Place) -> None:
    with place.shelf.write() as connection:
        connection.execute(update(workers).values(token=""))


def test_a_job_that_is_not_in_hand_twice_in_a_row_is_queued_again(
    idle: Place, keeper: Keeper
) -> None:
    job = idle.jobs.submit(LoadSpec(model="m", path="folder")).id

    def state_after_two_looks() -> str:
        keeper.give_back()
        keeper.give_back()
        return idle.jobs.get(job).state

    take(idle, 0, 1_000)
    with keeper.at_work(job):
        assert state_after_two_looks() == "running"
    keeper.give_back()
    take(idle, 0, 2_000)
    keeper.give_back()
    assert idle.jobs.get(job).state == "running", "this start was not in hand only once"
    assert state_after_two_looks() == "queued"
    take(idle, 1, 3_000)
    assert state_after_two_looks() == "running", "it is another worker's"


def test_a_job_that_was_begun_under_a_lost_lease_is_queued_again(
    idle: Place, keeper: Keeper
) -> None:
    job = idle.jobs.submit(LoadSpec(model="m", path="folder")).id
    take(idle, 0, 1_000)
    with keeper.at_work(job):
        lose(idle)
        keeper.turn()
        keeper.give_back()
        keeper.give_back()
        assert idle.jobs.get(job).state == "queued"


def test_a_worker_that_lets_go_of_a_job_looks_at_once_whether_it_has_its_lease(
    idle: Place, keeper: Keeper
) -> None:
    before = keeper.lease
    keeper.start()
    lose(idle)
    with pytest.raises(dbos_errors.DBOSWorkflowCancelledError), keeper.at_work("a"):
        raise dbos_errors.DBOSWorkflowCancelledError("another worker has it")
    until(lambda: keeper.lease != before)
    with keeper.at_work("a") as lease:
        assert lease == keeper.lease


def test_whether_a_jobs_worker_works_is_seen_from_outside(idle: Place) -> None:
    def healthy() -> str:
        command = [sys.executable, "-m", "app.healthy", "jobs"]
        env = idle.env | {"SAESCOPE_WORKER_NAME": "here"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.stderr if done.returncode else ""

    away = "jobs does not work: nobody holds the place of jobs"
    assert healthy().startswith(away)
    let_go = hold(idle)
    assert healthy() == ""
    let_go()
    assert healthy().startswith(away)


def hold(place: Place) -> Callable[[], None]:
    """Be the first jobs worker; gives back how to end."""
    if place.shelf.is_sqlite:
        lock = (place.settings.data_dir / "jobs-0.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock.close
    leases.acquire(place.shelf, "jobs-here-0")
    return lambda: lose(place)
