"""Questions to the inference server, which must be answered."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.server import ServerProcess

Ask = Callable[[str, dict[str, Any]], Any]


@pytest.fixture
def ask(server: ServerProcess) -> Ask:
    """The JSON of an answer to a POST under `/inference/v1/`."""

    def asked(path: str, body: dict[str, Any]) -> Any:
        answer = server.client.post(f"/inference/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return asked
