"""Connections to Postgres: a bounded number of each kind, each with its owner's name; no request hangs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from app.settings import Settings
from tests.api.server import ServerProcess
from tests.conftest import migrated
from tests.store import builders

POOL = 2
SAES = "/v1/models/tiny/saes"
NAMES = """
    SELECT application_name, count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1
"""

pytestmark = pytest.mark.timeout(300)


def test_requests_that_find_no_connection_are_told_so_and_no_pool_outgrows_its_size(
    postgres: Callable[[], str], tmp_path: Path
) -> None:
    url = postgres()
    with migrated(url) as shelf:
        builders.fill(shelf)
    settings = Settings(data_dir=tmp_path, database_url=url)
    server = ServerProcess(settings, SAESCOPE_DATABASE_POOL=str(POOL)).start()
    get = server.client.get
    try:
        assert get("/v1/jobs").status_code == 200
        with psycopg.connect(url.replace("+psycopg", "")) as holder, ThreadPoolExecutor(12) as pool:
            holder.execute("LOCK saes IN ACCESS EXCLUSIVE MODE")
            paths = [SAES] * 8 + [f"{SAES}/0-res/features/3"] * 4
            answers = list(pool.map(get, paths))
            held = dict(holder.execute(NAMES).fetchall())
            assert get("/healthz").status_code == 200
        check_refused(answers)
        ours = {name: count for name, count in held.items() if name.startswith("saescope serve ")}
        assert {"saescope serve read", "saescope serve lookups", "saescope serve jobs"} <= set(ours)
        assert max(ours.values()) == POOL and sum(held.values()) == sum(ours.values()) + 1
        assert [get(path).status_code for path in paths] == [200] * len(paths)
    finally:
        server.stop()


def check_refused(answers: list[httpx.Response]) -> None:
    """Some had a connection and waited for the lock, others for a connection."""
    assert {answer.status_code for answer in answers} == {503}
    told = {answer.json()["detail"][:34] for answer in answers}
    assert told == {"All connections of this process to", "The database does not answer; try "}
