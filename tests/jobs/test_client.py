"""The jobs client without a worker: what is queued can be seen, paged and changed."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from app.contract.jobs import JobView, LoadSpec, TrainSpec
from app.errors import BadRequest, Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.store import progress
from tests.jobs.place import Place

LOAD = LoadSpec(model="m", path="folder")
TRAIN = TrainSpec(model="m", sae="2-x", hook_name="blocks.0.hook_resid_post")


def test_a_submitted_job_is_queued_with_its_specification(idle: Place) -> None:
    view = idle.jobs.submit(TRAIN)
    assert (view.state, view.kind, view.progress) == ("queued", "train", 0)
    assert TrainSpec.model_validate(view.spec) == TRAIN
    assert idle.jobs.get(view.id) == view
    assert view.created_at.tzinfo is not None


def test_an_idempotency_key_makes_one_job(idle: Place) -> None:
    first = idle.jobs.submit(LOAD, "key")
    assert idle.jobs.submit(LOAD, "key").id == first.id
    assert idle.jobs.submit(LOAD, "other key").id != first.id
    assert idle.jobs.submit(LOAD).id != first.id
    for other in (LOAD.model_copy(update={"model": "n"}), TRAIN):
        with pytest.raises(Conflict, match="already used"):
            idle.jobs.submit(other, "key")
    assert len(idle.jobs.list()[0]) == 3


def test_pages_hold_every_job_once_newest_first(idle: Place) -> None:
    submitted = [idle.jobs.submit(LOAD).id for _ in range(7)]
    seen, cursor = [], None
    while True:
        items, cursor = idle.jobs.list(2, cursor)
        seen += items
        if cursor is None:
            break
    assert sorted(view.id for view in seen) == sorted(submitted)
    created = [view.created_at for view in seen]
    assert created == sorted(created, reverse=True)


def test_jobs_of_one_millisecond_are_paged_too(idle: Place) -> None:
    submitted = [idle.jobs.submit(LOAD).id for _ in range(5)]
    table = "workflow_status" if "sqlite" in idle.settings.jobs_url else "dbos.workflow_status"
    engine = create_engine(idle.settings.jobs_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET created_at = 1800000000123"))
    engine.dispose()
    seen, cursor = [], None
    while True:
        items, cursor = idle.jobs.list(2, cursor)
        seen += [view.id for view in items]
        if cursor is None:
            break
    assert sorted(seen) == sorted(submitted)


def test_lists_are_filtered_by_state_and_kind(idle: Place) -> None:
    load, train = idle.jobs.submit(LOAD), idle.jobs.submit(TRAIN)
    idle.jobs.cancel(load.id)
    assert [view.id for view in idle.jobs.list(state="cancelled")[0]] == [load.id]
    assert [view.id for view in idle.jobs.list(state="queued")[0]] == [train.id]
    assert [view.id for view in idle.jobs.list(kind="train")[0]] == [train.id]
    assert idle.jobs.list(state="done") == ([], None)


def test_a_strange_cursor_or_limit_is_refused(idle: Place) -> None:
    for _ in range(2):
        idle.jobs.submit(LOAD)
    _, cursor = idle.jobs.list(1)
    for wrong in ("", "x", "!!!"):
        with pytest.raises(BadRequest):
            idle.jobs.list(1, wrong)
    with pytest.raises(BadRequest):
        idle.jobs.list(1, cursor, kind="load")
    with pytest.raises(Invalid):
        idle.jobs.list(0)


def test_an_unknown_job_is_not_found(idle: Place) -> None:
    for call in (idle.jobs.get, idle.jobs.cancel, idle.jobs.retry, idle.jobs.delete):
        with pytest.raises(NotFound, match="no job nobody"):
            call("nobody")
    with pytest.raises(NotFound):
        asyncio.run(_views(idle.jobs, "nobody"))


def test_cancel_retry_and_delete(idle: Place) -> None:
    job = idle.jobs.submit(LOAD).id
    with pytest.raises(Conflict, match="only failed and cancelled"):
        idle.jobs.retry(job)
    with pytest.raises(Conflict, match="cancel it first"):
        idle.jobs.delete(job)
    assert idle.jobs.cancel(job).state == "cancelled"
    assert idle.jobs.cancel(job).state == "cancelled"
    assert idle.jobs.retry(job).state == "queued"
    idle.jobs.cancel(job)
    idle.jobs.delete(job)
    with pytest.raises(NotFound):
        idle.jobs.get(job)
    assert idle.jobs.list() == ([], None)


def test_a_deleted_jobs_key_is_free_again_and_its_id_is_not(idle: Place) -> None:
    first = idle.jobs.submit(LOAD, "key")
    idle.jobs.cancel(first.id)
    idle.jobs.delete(first.id)
    second = idle.jobs.submit(TRAIN, "key")
    assert second.state == "queued"
    assert second.id != first.id


def test_a_submission_that_was_interrupted_is_healed_by_the_next(idle: Place) -> None:
    noted = progress.add_job(idle.shelf, "noted", "key")
    assert idle.jobs.submit(LOAD, "key").id == noted
    assert len(idle.jobs.list()[0]) == 1


def test_the_same_key_at_once_makes_one_job(idle: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = {view.id for view in pool.map(lambda _: idle.jobs.submit(LOAD, "key"), range(8))}
    assert len(made) == 1
    assert len(idle.jobs.list()[0]) == 1


def test_events_tell_changes_until_the_end(idle: Place) -> None:
    job = idle.jobs.submit(LOAD).id

    async def watch_and_cancel() -> list[JobView]:
        views = idle.jobs.events(job)
        seen = [await anext(views)]
        await asyncio.to_thread(idle.jobs.cancel, job)
        return seen + [view async for view in views]

    assert [view.state for view in asyncio.run(watch_and_cancel())] == ["queued", "cancelled"]


async def _views(jobs: Jobs, job_id: str) -> list[JobView]:
    return [view async for view in jobs.events(job_id)]
