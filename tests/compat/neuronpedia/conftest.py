"""Neuronpedia's own client against the API as a process, on both databases."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from neuronpedia.requests.base_request import NPRequest

from app.settings import Settings
from app.store import write
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY, client_of
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.store import builders

KEY = {"x-api-key": "mine"}
OTHER = {"x-api-key": "somebody else's"}


def fill(shelf: Shelf) -> None:
    """Model `tiny` with the SAEs `0-res` and `1-res` of other evidence, and `1-mlp` without any."""
    tokens = builders.fill(shelf)
    other = builders.sae_record("1-res", d_sae=40, fingerprint="b" * 64)
    write.put_sae(shelf, replace(other, layer=1))
    write.begin_run(shelf, "tiny", "1-res", tokens.record.id, {}, "other")
    write.put_features(shelf, "other", builders.batch(tokens, 0, 40, seed=3))
    write.finish_runs(shelf, {"other": {}})
    write.put_sae(shelf, builders.sae_record("1-mlp", fingerprint="d" * 64))


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A shelf that is filled so."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres")()
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=url, live_url=NOBODY)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    fill(shelf)
    shelf.close()
    return settings


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[ServerProcess]:
    """The API as a process over that shelf."""
    running = ServerProcess(settings)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def http(server: ServerProcess) -> httpx.Client:
    """Asks it without a key."""
    return server.client


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Callable[[ServerProcess], None]:
    """Points Neuronpedia's client at a server, as its users do."""

    def at(server: ServerProcess) -> None:
        monkeypatch.setattr(NPRequest, "BASE_URL", f"{server.url}/api")
        monkeypatch.setenv("NEURONPEDIA_API_KEY", KEY["x-api-key"])

    return at


@pytest.fixture
def np(server: ServerProcess, point: Callable[[ServerProcess], None]) -> ServerProcess:
    """The server to which Neuronpedia's client goes."""
    point(server)
    return server


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[TestClient]:
    """The API in this process, with narrow limits, over a shelf that is filled so."""
    settings = Settings(data_dir=tmp_path, live_url=NOBODY, max_body_bytes=20_000, max_values=3_000)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    fill(shelf)
    shelf.close()
    with client_of(settings) as client:
        yield client
