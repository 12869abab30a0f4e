"""The API and the live worker as processes, that log JSON and send traces."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.server import ServerProcess
from tests.live.process import LiveProcess, put_evidence
from tests.live.world import World
from tests.observe.collector import Collector

SAE = "1-post"
together = pytest.mark.xdist_group("observe")
"""So that the processes are started once."""
PATIENCE_S = 60.0


@dataclass
class Scene:
    """What a test asks, and what comes of it."""

    live: LiveProcess
    api: ServerProcess
    collector: Collector
    world: World

    def steer(self, **fields: Any) -> dict[str, Any]:
        """The body of a request that succeeds."""
        entry = {"sae": SAE, "feature": 3, "strength": 1.0}
        body = {"model": self.world.id, "prompt": "The", "steering": [entry]}
        return body | {"max_new_tokens": 8} | fields

    def line(self, log: Callable[["Scene"], str], **fields: Any) -> dict[str, Any]:
        """The line of a log that has these fields, once it is written."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            lines = [json.loads(line) for line in log(self).splitlines()]
            found = [one for one in lines if fields.items() <= one.items()]
            if found:
                assert len(found) == 1, found
                return found[0]
            assert time.monotonic() < deadline, f"no {fields} in\n{log(self)}"
            time.sleep(0.05)


def of_api(scene: Scene) -> str:
    return scene.api.log.read_text()


def of_live(scene: Scene) -> str:
    return scene.live.log.read_text()


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory, llama: World) -> Iterator[Scene]:
    collector = Collector()
    environment = {
        "SAESCOPE_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    live = LiveProcess(tmp_path_factory.mktemp("observe"), [llama], **environment)
    put_evidence(live.shelf, llama, SAE)
    api = ServerProcess(live.settings, **environment)
    try:
        live.start()
        yield Scene(live, api.start(), collector, llama)
    finally:
        if api.process:
            api.stop()
        if live.process:
            live.stop()
        collector.close()
