"""Event streams on Postgres are told of changes; they look for themselves only where nobody tells."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from sqlalchemy import create_engine, event, text

from app import news
from app.contract.jobs import JobView, LoadSpec
from app.jobs import Jobs
from app.store import progress
from app.store.engine import autocommitting, connected
from tests.jobs.place import Place

pytestmark = [
    pytest.mark.parametrize("idle", ["postgres"], indirect=True),
    pytest.mark.timeout(120),  # a stream that is told nothing waits for hours
]
LOAD = LoadSpec(model="m", path="folder")
LISTENING = (
    "FROM pg_stat_activity WHERE application_name = 'saescope listen' AND query LIKE 'LISTEN%'"
)


@pytest.fixture(autouse=True)
def never_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that are told of changes look again after hours."""
    monkeypatch.setattr(news, "FALLBACK_S", 10_000.0)


@pytest.fixture
def others(idle: Place) -> Iterator[Jobs]:
    """Jobs as another process has them."""
    jobs = Jobs(idle.settings.jobs_url, idle.shelf)
    yield jobs
    jobs.close()


def ask(place: Place, sql: str) -> int:
    with connected(autocommitting(place.settings.jobs_url)) as connection:
        return connection.execute(text(sql)).scalar_one()


async def listening(place: Place, does: bool = True) -> None:
    """Until the process listens, or does not."""
    while place.jobs._news._told is not does:
        await asyncio.sleep(0.01)


async def first(views: AsyncGenerator[JobView, None]) -> "asyncio.Task[JobView]":
    """Begins a stream: what it sees next, once it is seen."""
    assert (await anext(views)).state == "queued"
    return asyncio.ensure_future(anext(views))


def test_changes_by_any_process_are_told_and_nothing_is_asked_between(
    idle: Place, others: Jobs
) -> None:
    job, asked = others.submit(LOAD).id, []
    assert idle.jobs._engine
    event.listen(idle.jobs._engine, "before_cursor_execute", lambda *_: asked.append(1))

    async def watch() -> list[JobView]:
        await open_the_connection(idle, job)
        views = idle.jobs.events(job)
        following = await first(views)
        asked.clear()
        running = "UPDATE dbos.workflow_status SET status = 'PENDING'"
        await asyncio.to_thread(execute, idle, running)
        seen = [await following]
        a_look = len(asked)
        for done in (0.25, 0.5):
            await asyncio.to_thread(progress.put_progress, idle.shelf, job, "copy", done)
            seen.append(await anext(views))
        following = asyncio.ensure_future(anext(views))
        await asyncio.sleep(3 * news.POLL_S)
        assert len(asked) == 3 * a_look
        await asyncio.to_thread(others.cancel, job)
        return [*seen, await following]

    seen = asyncio.run(watch())
    assert [view.state for view in seen] == ["running", "running", "running", "cancelled"]
    assert [view.progress for view in seen[:3]] == [0, 0.25, 0.5]


async def open_the_connection(place: Place, job: str) -> None:
    """As the first stream of a process does."""
    views = place.jobs.events(job)
    following = await first(views)
    await listening(place)
    following.cancel()
    await asyncio.wait([following])
    await views.aclose()


def execute(place: Place, sql: str) -> None:
    engine = create_engine(place.settings.jobs_url)
    with engine.begin() as connection:
        connection.execute(text(sql))
    engine.dispose()


def test_one_connection_listens_for_all_streams_and_comes_back_when_it_was_cut(
    idle: Place, others: Jobs
) -> None:
    jobs = [others.submit(LOAD).id for _ in range(10)]

    async def watch() -> list[JobView]:
        streams = [idle.jobs.events(job) for job in jobs]
        following = [await first(views) for views in streams]
        await listening(idle)
        assert await asyncio.to_thread(ask, idle, f"SELECT count(*) {LISTENING}") == 1
        await asyncio.to_thread(execute, idle, f"SELECT pg_terminate_backend(pid) {LISTENING}")
        await listening(idle, False)
        # One change while nobody listens, the others when one does again.
        await asyncio.to_thread(others.cancel, jobs[0])
        await listening(idle)
        for job in jobs[1:]:
            await asyncio.to_thread(others.cancel, job)
        return list(await asyncio.gather(*following))

    assert {view.state for view in asyncio.run(watch())} == {"cancelled"}


def test_without_a_connection_that_listens_a_stream_looks_for_itself(
    idle: Place, others: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = others.submit(LOAD).id

    async def cut_off(_: news.News) -> None:
        raise OSError("no way through")

    monkeypatch.setattr(news.News, "_hear", cut_off)

    async def watch() -> JobView:
        following = await first(idle.jobs.events(job))
        await asyncio.to_thread(others.cancel, job)
        return await following

    assert asyncio.run(watch()).state == "cancelled"


def test_a_deleted_job_ends_its_stream(idle: Place, others: Jobs) -> None:
    job = others.submit(LOAD).id

    async def watch() -> list[JobView]:
        views = idle.jobs.events(job)
        await anext(views)
        await listening(idle)
        await asyncio.to_thread(others.cancel, job)
        await asyncio.to_thread(others.delete, job)
        return [view async for view in views]

    assert [view.state for view in asyncio.run(watch())] in ([], ["cancelled"])
