"""Jobs by kind and state, and how long the oldest waits, in the API's metrics."""

import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.contract.jobs import ExportSpec, LoadSpec
from app.jobs import Jobs
from app.settings import Settings
from app.store.engine import Shelf
from tests.api.test_health import value


@pytest.fixture
def jobs(settings: Settings, shelf: Shelf) -> Iterator[Jobs]:
    opened = Jobs(settings.jobs_url, shelf)
    yield opened
    opened.close()


def counted(client: TestClient, kind: str, state: str) -> float:
    return value(client.get("/metrics").text, f'saescope_jobs{{kind="{kind}",state="{state}"}}')


def oldest(client: TestClient) -> float:
    return value(client.get("/metrics").text, "saescope_jobs_oldest_queued_seconds")


def test_jobs_are_counted_where_they_are(client: TestClient, jobs: Jobs) -> None:
    assert counted(client, "load", "queued") == counted(client, "train", "failed") == 0
    assert oldest(client) == 0
    spec = LoadSpec(model="tiny", path="nowhere")
    first, second, _ = [jobs.submit(spec).id for _ in range(3)]
    jobs.submit(ExportSpec(model="tiny", sae="0-res", path="out"))
    assert counted(client, "load", "queued") == 3 and counted(client, "export", "queued") == 1
    began = oldest(client)
    while oldest(client) < began + 0.5:
        time.sleep(0.05)
    jobs.cancel(first)
    assert counted(client, "load", "queued") == 2 and counted(client, "load", "cancelled") == 1
    jobs.delete(first)
    assert counted(client, "load", "cancelled") == 0
    jobs.cancel(second)
    waited = oldest(client)
    jobs.retry(second)  # waits from now on, behind the others
    assert counted(client, "load", "queued") == 2 and oldest(client) >= waited


def test_without_a_database_there_are_no_counts(settings: Settings) -> None:
    from tests.api.conftest import client_of

    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/x"})
    text = client_of(away).get("/metrics").text
    assert "saescope_jobs{" not in text
    assert "saescope_jobs_oldest_queued_seconds NaN" in text


def test_asking_makes_no_database(settings: Settings, client: TestClient) -> None:
    if settings.database_url is None:
        assert counted(client, "load", "queued") == 0
        assert not (settings.data_dir / "jobs.db").exists()
