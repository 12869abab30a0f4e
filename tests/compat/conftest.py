"""The API and the live worker as processes, and the API alone, for other services' clients."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from app.store.engine import open_shelf
from tests.api.conftest import NOBODY, client_of
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.live.process import LiveProcess, put_evidence
from tests.live.world import World
from tests.store import builders


@pytest.fixture(scope="session")
def live(
    tmp_path_factory: pytest.TempPathFactory, world: World, llama: World
) -> Iterator[LiveProcess]:
    """The live worker as a process, with evidence for the SAE `1-post` of both models."""
    running = LiveProcess(tmp_path_factory.mktemp("live"), [world, llama])
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


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API without a live worker, over a shelf with the model `tiny`, for tests that only read."""
    folder = tmp_path_factory.mktemp("alone")
    settings = Settings(data_dir=folder, live_url=NOBODY, max_body_bytes=4_000)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    builders.fill(shelf)
    shelf.close()
    with client_of(settings) as client:
        yield client
