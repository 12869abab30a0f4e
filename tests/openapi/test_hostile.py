"""Thousands of spoiled requests: each is answered, none with a 5xx, and nothing is left of them in memory."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.live.world import World
from tests.openapi.conftest import together
from tests.openapi.hostile import Hostile, send
from tests.openapi.place import Place, running

pytestmark = [together, pytest.mark.timeout(3_600)]
PATIENCE_S = 120
"""Seconds after which a request that is not answered has hung, on a busy machine."""
CALLERS = 4
GROWTH_BYTES = 40 * 2**20
"""Memory of either process may be as much more after many than after some."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, llama: World) -> Iterator[Place]:
    """A service of its own, as some of it may be gone in the end."""
    patience = {"SAESCOPE_READ_TIMEOUT_S": "5"}  # some bodies are shorter than they say
    with running(tmp_path_factory.mktemp("victim"), llama, **patience) as place:
        yield place


def ask(victim: Place, n: int, seed: int) -> Counter[str]:
    """Answers by status; what must not be is there with its beginning and its request."""
    host = victim.server.url.removeprefix("http://")
    document = victim.server.client.get("/openapi.json").json()

    def status(request: bytes) -> str:
        told = send(host, request, PATIENCE_S)
        code = told[9:12].decode() if told.startswith(b"HTTP/1.1 ") else "closed"
        return f"{told[:400]!r} for {request[:2_000]!r}" if code.startswith("5") else code

    with ThreadPoolExecutor(CALLERS) as pool:
        return Counter(pool.map(status, Hostile(document, host, seed).requests(n)))


def check(found: Counter[str]) -> None:
    print(found)
    wrong = [told for told in found if len(told) > 6]
    assert not wrong, "\n".join(wrong[:5])
    assert found["422"] and found["404"] and found["400"] and found["200"]


def test_none_is_a_server_error(victim: Place) -> None:
    check(ask(victim, 700, seed=1))
    assert victim.server.client.get("/healthz").status_code == 200
    assert victim.live.health()["requests"] == victim.live.health()["tokens"] == 0


@pytest.mark.slow
def test_nothing_is_left_of_ten_thousand(victim: Place) -> None:
    check(ask(victim, 3_000, seed=2))
    before = _resident(victim)
    check(ask(victim, 10_000, seed=3))
    after = _resident(victim)
    print(before, after)
    assert all(after[name] - before[name] < GROWTH_BYTES for name in before)


def _resident(victim: Place) -> dict[str, int]:
    processes = {"app": victim.server.process, "live": victim.live.process}
    return {
        name: psutil.Process(process.pid).memory_info().rss
        for name, process in processes.items()
        if process
    }
