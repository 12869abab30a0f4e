"""OpenAI's own client against the API and the live worker as processes."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.api.server import ServerProcess


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    """OpenAI's client, as anybody sets it up."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
