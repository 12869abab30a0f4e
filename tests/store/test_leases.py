"""Leases of jobs workers: held by one process, taken when they ran out, and a fence to what it writes."""

import threading
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from app.store import engine, leases
from app.store.engine import Shelf
from app.store.leases import Standing
from app.store.tables import job_progress, workers
from tests.jobs.crew import until

JOB = {"job_id": "a", "done": 0.0, "metrics": {}, "updated_at": datetime.now(UTC)}


def run_out(shelf: Shelf, worker: str) -> None:
    """Let time pass for a worker that is silent."""
    with shelf.write() as connection:
        past = {"since": workers.c.since - 100, "until": workers.c.until - 100}
        connection.execute(update(workers).where(workers.c.name == worker).values(past))


def take(shelf: Shelf, *busy: str) -> set[str]:
    with leases.taking_over(shelf, set(busy)) as names:
        return names


def jobs(shelf: Shelf) -> int:
    with shelf.read() as connection:
        return connection.execute(select(func.count()).select_from(job_progress)).scalar_one()


def test_a_lease_holds_until_it_runs_out_and_is_taken_once(shelf: Shelf) -> None:
    lease = leases.acquire(shelf, "jobs-a-0")
    assert leases.renew(shelf, lease) is Standing.HELD
    assert take(shelf, "jobs-a-0") == set()
    run_out(shelf, "jobs-a-0")
    assert [worker.holds for worker in leases.all_workers(shelf)] == [False]
    assert take(shelf, "jobs-b-0") == {"jobs-b-0"}, "a worker without jobs was taken over"
    assert take(shelf, "jobs-a-0") == {"jobs-a-0"}
    assert leases.renew(shelf, lease) is Standing.TAKEN
    again = leases.acquire(shelf, "jobs-a-0")
    assert leases.renew(shelf, again) is Standing.HELD
    assert leases.renew(shelf, lease) is Standing.ANOTHERS


def test_a_lease_that_ran_out_goes_on_when_nobody_took_it_and_settles_anew(shelf: Shelf) -> None:
    lease = leases.acquire(shelf, "jobs-a-0")
    with shelf.write() as connection:
        connection.execute(update(workers).values(since=workers.c.since - 100))
    assert leases.renew(shelf, lease) is Standing.SETTLED
    run_out(shelf, "jobs-a-0")
    assert leases.renew(shelf, lease) is Standing.HELD, "it judges others as soon as it is back"
    assert [worker.holds for worker in leases.all_workers(shelf)] == [True]


def test_a_clock_that_is_set_back_makes_nobody_live_for_longer(shelf: Shelf) -> None:
    alive, _ = leases.acquire(shelf, "jobs-a-0"), leases.acquire(shelf, "jobs-b-0")
    with shelf.write() as connection:
        ahead = {"since": workers.c.since + 3_600, "until": workers.c.until + 3_600}
        connection.execute(update(workers).values(ahead))
    assert leases.renew(shelf, alive) is Standing.HELD
    assert [worker.holds for worker in leases.all_workers(shelf)] == [True, False]
    with shelf.write() as connection:
        mine = update(workers).where(workers.c.name == "jobs-a-0")
        connection.execute(mine.values(since=workers.c.since - 100))
    assert leases.renew(shelf, alive) is Standing.SETTLED
    assert take(shelf, "jobs-a-0", "jobs-b-0") == {"jobs-b-0"}


def test_who_is_taken_over_has_lost_the_lease_also_when_that_goes_wrong(shelf: Shelf) -> None:
    lease = leases.acquire(shelf, "jobs-a-0")
    run_out(shelf, "jobs-a-0")
    with pytest.raises(OSError), leases.taking_over(shelf, {"jobs-a-0"}):
        raise OSError("the database is gone, and some of the jobs are in their queues")
    assert leases.renew(shelf, lease) is Standing.TAKEN
    assert take(shelf, "jobs-a-0") == {"jobs-a-0"}


def test_workers_without_a_lease_are_taken_and_not_listed(shelf: Shelf) -> None:
    leases.acquire(shelf, "jobs-a-0")
    assert take(shelf, "jobs-0", "jobs-a-0") == {"jobs-0"}
    [worker] = leases.all_workers(shelf)
    assert (worker.name, worker.holds) == ("jobs-a-0", True)
    assert (worker.until - worker.since).total_seconds() == pytest.approx(leases.LEASE_S, abs=5)


def test_workers_that_are_long_gone_are_forgotten(shelf: Shelf) -> None:
    leases.acquire(shelf, "jobs-a-0")
    with shelf.write() as connection:
        connection.execute(update(workers).values(until=1.0))
    take(shelf)
    assert leases.all_workers(shelf) == []


def test_who_lost_the_lease_writes_nothing_more(shelf: Shelf) -> None:
    ours = leases.fenced(shelf, leases.acquire(shelf, "jobs-a-0"))
    with ours.write() as connection:
        connection.execute(job_progress.insert(), JOB)
    run_out(shelf, "jobs-a-0")
    take(shelf, "jobs-a-0")
    leases.acquire(shelf, "jobs-a-0")  # as the process itself does when it sees it
    with pytest.raises(leases.Lost), ours.write() as connection:
        connection.execute(job_progress.delete())
    assert jobs(shelf) == 1


def test_a_lease_is_not_taken_in_the_middle_of_a_write(postgres_shelf: Shelf) -> None:
    shelf = postgres_shelf
    lease = leases.acquire(shelf, "jobs-a-0")
    ours = leases.fenced(shelf, lease)
    with ours.write() as connection:
        connection.execute(job_progress.insert(), JOB)
        assert leases.renew(shelf, lease) is Standing.HELD, "a job's write held up the renewal"
        run_out(shelf, "jobs-a-0")
        assert take(shelf, "jobs-a-0") == set()
    assert jobs(shelf) == 1
    assert take(shelf, "jobs-a-0") == {"jobs-a-0"}


def test_a_worker_that_is_being_taken_over_gets_its_next_lease_afterwards(
    postgres_shelf: Shelf,
) -> None:
    shelf = postgres_shelf
    leases.acquire(shelf, "jobs-a-0")
    run_out(shelf, "jobs-a-0")
    back = threading.Thread(target=leases.acquire, args=(shelf, "jobs-a-0"), daemon=True)
    with ExitStack() as stack:
        assert stack.enter_context(leases.taking_over(shelf, {"jobs-a-0"})) == {"jobs-a-0"}
        assert take(shelf, "jobs-a-0") == set(), "two take the same jobs"
        back.start()
        back.join(0.5)
        assert back.is_alive()
    back.join(60)
    assert [worker.holds for worker in leases.all_workers(shelf)] == [True]


def test_who_takes_a_name_waits_for_what_its_holder_writes(postgres_shelf: Shelf) -> None:
    shelf = postgres_shelf
    ours = leases.fenced(shelf, leases.acquire(shelf, "jobs-a-0"))
    again = threading.Thread(target=leases.acquire, args=(shelf, "jobs-a-0"), daemon=True)
    with ours.write() as connection:
        again.start()
        again.join(0.5)
        assert again.is_alive()
        connection.execute(job_progress.insert(), JOB)
    again.join(60)
    assert not again.is_alive()
    with pytest.raises(leases.Lost), ours.write():
        pass


def test_a_worker_that_stands_still_in_a_transaction_is_cut_off(
    postgres_shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE_TRANSACTION_S", 1)
    shelf = postgres_shelf
    ours = leases.fenced(shelf, leases.acquire(shelf, "jobs-a-0"))
    shelf.writer.dispose()
    with pytest.raises(DBAPIError), ours.write() as connection:
        connection.execute(job_progress.insert(), JOB)
        run_out(shelf, "jobs-a-0")
        until(lambda: take(shelf, "jobs-a-0"))
        connection.execute(job_progress.insert(), {**JOB, "job_id": "b"})
    assert jobs(shelf) == 0
