"""The API over a filled shelf, asked in this process, on both databases."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store import write
from app.store.engine import Shelf, open_shelf
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.live.process import LiveProcess, put_evidence
from tests.live.world import World
from tests.store import builders

NOBODY = "http://127.0.0.1:9"
"""An address at which no live worker listens."""


def client_of(settings: Settings) -> TestClient:
    """A client of an application with these settings; a server error is an answer, as over HTTP. Where
    there is no shelf, it gets an empty one."""
    if settings.database_url is None and not (settings.data_dir / "shelf.db").exists():
        prepare(settings.shelf_url)
    return TestClient(
        create_app(settings), base_url="http://localhost", raise_server_exceptions=False
    )


def broken_client_of(settings: Settings) -> TestClient:
    """The same over a shelf that has lost its models."""
    prepare(settings.shelf_url)
    with closing(sqlite3.connect(settings.data_dir / "shelf.db")) as connection:
        connection.execute("DROP TABLE models")
    return client_of(settings)


@pytest.fixture
def settings(tmp_path: Path, shelf_url: str) -> Settings:
    """Settings over a migrated, empty shelf."""
    url = None if shelf_url.startswith("sqlite") else shelf_url
    settings = Settings(data_dir=tmp_path, database_url=url, live_url=NOBODY)
    prepare(settings.shelf_url)
    return settings


@pytest.fixture
def shelf(settings: Settings) -> Iterator[Shelf]:
    """A shelf with model `tiny`, SAE `0-res` and its evidence, for a test that changes it."""
    shelf = open_shelf(settings.shelf_url)
    builders.fill(shelf)
    yield shelf
    shelf.close()


@pytest.fixture
def client(settings: Settings, shelf: Shelf) -> Iterator[TestClient]:
    """A client of the whole application over that shelf."""
    with client_of(settings) as client:
        yield client


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def stocked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A shelf for tests that only read: `0-res` as above, `fresh` without evidence, `dead` whose
    feature 49 never fired, `stuck` that cannot be steered."""
    folder = tmp_path_factory.mktemp("stocked")
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres")()
    settings = Settings(data_dir=folder, database_url=url, live_url=NOBODY)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    tokens = builders.fill(shelf)
    for fingerprint, name in enumerate(("fresh", "dead"), 1):
        write.put_sae(shelf, builders.sae_record(name, fingerprint=str(fingerprint) * 64))
    write.begin_run(shelf, "tiny", "dead", tokens.record.id, {}, "dead-1")
    write.put_features(shelf, "dead-1", builders.batch(tokens, 0, 64))
    write.finish_runs(shelf, {"dead-1": {}})
    stuck = builders.sae_record("stuck", fingerprint="3" * 64)
    reason = "it reads inside attention"
    write.put_sae(shelf, replace(stuck, steerable=False, steerable_reason=reason))
    shelf.close()
    yield settings


@pytest.fixture(scope="session")
def reader(stocked: Settings) -> Iterator[TestClient]:
    """A client of the application over the shelf that is only read."""
    with client_of(stocked) as client:
        yield client


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[LiveProcess]:
    """The live worker as a process, over a shelf that has evidence for the SAE `1-post`."""
    running = LiveProcess(tmp_path_factory.mktemp("live"), [world])
    put_evidence(running.shelf, world, "1-post")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture(scope="session")
def server(live: LiveProcess) -> Iterator[ServerProcess]:
    """The API as a process, over the live worker's shelf."""
    running = ServerProcess(live.settings)
    try:
        yield running.start()
    finally:
        running.stop()
