"""A worker notices that a job is no longer its own, on both databases."""

from dbos import DBOSClient
from sqlalchemy import create_engine, text

from app.contract.jobs import LoadSpec
from app.contract.queues import executor_id
from tests.jobs.place import Place
from worker.jobs.workflows import turn


def take(place: Place, index: int, at: int) -> None:
    """Take the only job from its queue, as DBOS in a worker does."""
    sqlite = place.settings.jobs_url.startswith("sqlite")
    engine = create_engine(place.settings.jobs_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                f"UPDATE {'' if sqlite else 'dbos.'}workflow_status "
                "SET status = 'PENDING', executor_id = :executor, started_at_epoch_ms = :at"
            ),
            {"executor": executor_id("", index), "at": at},
        )
    engine.dispose()


def test_a_turn_ends_when_another_worker_or_a_retry_has_the_job(
    idle: Place, client: DBOSClient
) -> None:
    job = idle.jobs.submit(LoadSpec(model="m", path="folder")).id
    assert turn(client, job) is None
    take(idle, 0, 1_000)
    first = turn(client, job)
    assert first is not None
    assert turn(client, job) == first
    take(idle, 0, 2_000)
    again = turn(client, job)
    take(idle, 1, 2_000)
    other = turn(client, job)
    assert len({None, first, again, other}) == 4
    idle.jobs.cancel(job)
    assert turn(client, job) is None
    idle.jobs.delete(job)
    assert turn(client, job) is None
