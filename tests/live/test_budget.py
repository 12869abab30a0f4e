"""What a worker takes on at a time, and what it says when that, or its memory, is used up."""

import json
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import psutil
import pytest

from app.errors import TooLarge, TooMany
from tests.live.process import LiveProcess
from tests.live.world import World
from worker.live.budget import Budget

FEW = {"SAESCOPE_MAX_LIVE_REQUESTS": "6", "SAESCOPE_MAX_LIVE_TOKENS": "300"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[LiveProcess]:
    """A process that takes on little."""
    running = LiveProcess(tmp_path_factory.mktemp("small"), [world], **FEW).start()
    yield running
    running.stop()


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[LiveProcess]:
    """A process that a test may bring into trouble."""
    running = LiveProcess(tmp_path_factory.mktemp("own"), [world]).start()
    yield running
    running.stop()


def test_a_budget_gives_what_it_has() -> None:
    budget = Budget(10, "tokens", "SAESCOPE_X")
    with budget.holding(7):
        with pytest.raises(TooMany, match="7 tokens, of 10"):
            budget.take(4)
        with budget.holding(3):
            assert budget.taken == 10
    assert budget.taken == 0
    with pytest.raises(TooLarge, match="SAESCOPE_X"):
        budget.take(11)


def test_it_says_when_to_come_again_by_how_fast_things_end() -> None:
    budget = Budget(1_000, "tokens", "SAESCOPE_X")
    budget.take(1_000)
    time.sleep(0.5)
    budget.give_back(100)  # 200 a second, or fewer on a slow machine
    with pytest.raises(TooMany) as refused:
        budget.take(1_000)
    assert 4 <= refused.value.fields["retry_after"] <= 60


def test_what_is_added_too_late_is_not_kept() -> None:
    budget = Budget(10, "values", "SAESCOPE_X")
    with budget.open_tab() as tab:
        tab.add(6)
        with pytest.raises(TooMany):
            tab.add(5)
        assert budget.taken == 6
    tab.add(4)
    assert budget.taken == 0


def test_many_take_and_give_back_at_once() -> None:
    budget, ever = Budget(50, "tokens", "SAESCOPE_X"), []

    def work(amount: int) -> None:
        for _ in range(300):
            try:
                with budget.holding(amount):
                    ever.append(budget.taken)
            except TooMany:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [7, 11, 13, 20] * 2))
    assert budget.taken == 0 and 0 < max(ever) <= 50


def asked(world: World, **fields: Any) -> dict[str, Any]:
    return {"model": world.id, "prompt": "x", "interventions": [], "max_new_tokens": 60} | fields


def together(live: LiveProcess, path: str, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Answers to requests that are sent at the same time."""
    started = threading.Barrier(len(bodies))

    def ask(body: dict[str, Any]) -> httpx.Response:
        with live.new_client() as client:
            started.wait()
            return client.post(path, json=body)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, bodies))


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_past_the_budget_are_429(small: LiveProcess, world: World, stream: bool) -> None:
    """Two of these have 2 x 61 tokens and more each, so a third has to wait."""
    small.post("/steer", asked(world, max_new_tokens=1))
    answers = together(small, "/steer", [asked(world, stream=stream)] * 6)
    told = [_outcome(answer) for answer in answers]
    assert "done" in told and 429 in told and set(told) == {"done", 429}
    small.wait_idle()
    assert small.health()["tokens"] == 0
    assert small.post("/steer", asked(world))["steered"]["finish_reason"]


def _outcome(answer: httpx.Response) -> object:
    """`done`, or the status of the problem."""
    body = json.loads(answer.text.splitlines()[-1])
    problem = body.get("problem") or body
    if problem.get("status") == 429:
        assert problem["retry_after"] >= 1 and "SAESCOPE_MAX_LIVE_TOKENS" in problem["detail"]
        return 429
    assert answer.status_code == 200 and ("steered" in body or "done" in body)
    return "done"


def test_captures_count_as_well(small: LiveProcess, world: World) -> None:
    body = {"model": world.id, "saes": ["1-post"], "texts": ["x y z " * 8] * 4, "top_k": 2}
    small.post("/activations", body)
    refused = small.client.post("/activations", json=body | {"texts": ["x y z " * 8] * 20})
    assert refused.status_code == 413 and "SAESCOPE_MAX_LIVE_TOKENS" in refused.json()["detail"]
    assert small.health()["tokens"] == 0


def test_what_could_never_be_taken_on_is_413(small: LiveProcess, world: World) -> None:
    answer = small.client.post("/sweep", json=asked(world, strengths=[1, 2, 3, 4, 5]))
    assert answer.status_code == 413
    assert "SAESCOPE_MAX_LIVE_TOKENS" in answer.json()["detail"]


def test_clients_that_leave_free_their_places(small: LiveProcess, world: World) -> None:
    host = small.settings.live_url.removeprefix("http://")
    for round in range(20):
        clients = [HTTPConnection(host) for _ in range(6)]
        for place, client in enumerate(clients):
            body = json.dumps(asked(world, stream=bool((place + round) % 2), exact=True))
            client.request("POST", "/steer", body, dict(small.client.headers))
        if round % 2:
            time.sleep(0.01)
        for client in clients:
            client.close()
    deadline = time.monotonic() + 60
    while (health := small.health())["requests"] or health["tokens"]:
        assert time.monotonic() < deadline, health
        time.sleep(0.02)
    assert small.post("/steer", asked(world))["steered"]["finish_reason"]


def test_requests_past_the_limit_are_429(small: LiveProcess, world: World) -> None:
    """The seventh; how the worker is may still be asked."""
    host = small.settings.live_url.removeprefix("http://")
    waiting = [HTTPConnection(host) for _ in range(6)]
    for client in waiting:
        headers = dict(small.client.headers) | {"content-length": "100"}
        client.request("POST", "/steer", b"{", headers)  # the rest does not come
    deadline = time.monotonic() + 60
    while small.health()["requests"] < 6:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answer = small.client.post("/steer", json=asked(world))
    assert answer.status_code == 429 and "SAESCOPE_MAX_LIVE_REQUESTS" in answer.json()["detail"]
    for client in waiting:
        client.close()
    small.wait_idle()


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="only Linux limits another process")
def test_without_memory_a_request_fails_and_the_process_goes_on(
    own: LiveProcess, world: World
) -> None:
    """Its memory may hardly grow from here on: a large answer does not fit, small ones do."""
    steer = asked(world, max_new_tokens=40)
    small = {"model": world.id, "saes": ["1-post"], "texts": ["x y z"], "top_k": 2}
    before = [own.post("/steer", steer)["steered"], own.post("/activations", small)]
    process = psutil.Process(own.process.pid if own.process else None)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    most = process.memory_info().vms + 2**23
    process.rlimit(psutil.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    large = small | {"texts": ["x y z " * 8] * 300, "top_k": 96}
    # One at a time: what is written in Rust ends a process to which it cannot allocate a little.
    refused = own.client.post("/activations", json=large)
    assert refused.status_code == 503 and "not enough memory" in refused.json()["detail"]
    assert own.post("/activations", small) == before[1]
    process.rlimit(psutil.RLIMIT_AS, unlimited)
    assert [own.post("/steer", steer)["steered"], own.post("/activations", small)] == before
    assert own.health()["tokens"] == 0
