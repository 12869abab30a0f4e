"""The running service, its document as a file, and node."""

from collections.abc import Iterator

import pytest

from tests.live.world import World
from tests.openapi.node import Node
from tests.openapi.place import Place, running

together = pytest.mark.xdist_group("openapi")
"""For what takes the place or node: both are there once."""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, llama: World) -> Iterator[Place]:
    """The API and a live worker, over a shelf that has what the document's examples name."""
    with running(tmp_path_factory.mktemp("place"), llama) as place:
        yield place


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    """Node with the npm packages; skips where they cannot be had."""
    assert request.config.cache
    return Node(request.config.cache.mkdir("npm"))
