"""Neuronpedia's own client against the API and the live worker as processes."""

from collections.abc import Iterator

import httpx
import pytest
from neuronpedia.requests.base_request import NPRequest

from app.store import write
from tests.api.server import ServerProcess
from tests.live.process import LiveProcess, put_evidence, sae_record
from tests.live.world import World

EVIDENT = ("1-post", "1-topk", "1-mlp")
"""Sources of `world` that have evidence."""


@pytest.fixture(scope="session")
def live(
    tmp_path_factory: pytest.TempPathFactory, world: World, llama: World
) -> Iterator[LiveProcess]:
    """The live worker as a process, over two models."""
    running = LiveProcess(tmp_path_factory.mktemp("live"), [world, llama])
    write.put_sae(running.shelf, sae_record(world, "1-mlp"))
    for sae in EVIDENT:
        put_evidence(running.shelf, world, sae)
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


@pytest.fixture
def api(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """A plain client, with Neuronpedia's own pointed at the same service."""
    monkeypatch.setattr(NPRequest, "BASE_URL", f"{server.url}/api")
    monkeypatch.setenv("NEURONPEDIA_API_KEY", "mine")
    return server.client
