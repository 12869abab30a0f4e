"""The tutorial's steps, run as they stand there."""

import httpx
import pytest

from tests.flow import tutorial
from tests.flow.conftest import on_sqlite
from tests.flow.service import Service

pytestmark = [
    pytest.mark.timeout(600),
    on_sqlite,
]


def test_the_walk_goes_as_the_page_says(service: Service) -> None:
    explained = 0
    try:
        for command, printed in tutorial.steps():
            now = tutorial.run(command, service.url, service.env, service.cwd)
            assert tutorial.outline(now) == tutorial.outline(printed), now
            if "not explained" in now:
                explained += 1
                assert sum(tutorial.shares(now)) == pytest.approx(100, abs=1)
    finally:
        for source in ("1-own", "1-mlp"):
            httpx.delete(f"{service.url}/v1/models/storyworld/saes/{source}")
    assert explained == 2
