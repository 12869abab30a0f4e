"""Places: on SQLite and on Postgres, with a worker or without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dbos import DBOSClient, DBOSPortableJSONSerializer

from app.contract.queues import APPLICATION
from tests.jobs.place import Place
from tests.worker.tiny import save_model, save_sae


@pytest.fixture(params=["sqlite", "postgres"])
def idle(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place where nobody works."""
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else None
    place = Place(tmp_path, url)
    yield place
    place.close()


@pytest.fixture
def client(idle: Place) -> Iterator[DBOSClient]:
    """A client as workers have it."""
    client = DBOSClient(
        system_database_url=idle.settings.jobs_url,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )
    yield client
    client.destroy()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A place with a worker, a tiny model's files in `model`, an SAE's in `sae`."""
    folder = tmp_path_factory.mktemp("place")
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else None
    place = Place(folder, url)
    save_model(folder / "model")
    save_sae(folder / "sae", d_sae=3_000)
    place.start_worker()
    yield place
    place.close()
