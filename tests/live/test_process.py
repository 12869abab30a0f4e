"""The live worker's life as a process: start, idle, stop, and clients that leave."""

import json
import signal
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.errors import Conflict
from app.store.use import alone
from tests.live.process import LiveProcess
from tests.live.world import World


@pytest.fixture
def own(tmp_path: Path, world: World) -> Iterator[LiveProcess]:
    """A process that the test may end."""
    running = LiveProcess(tmp_path / "own", [world])
    yield running
    if running.process and running.process.poll() is None:
        running.process.kill()


def test_idle_it_sleeps(live: LiveProcess, world: World) -> None:
    live.post("/steer", long_request(world))
    live.wait_idle()
    assert live.process
    process = psutil.Process(live.process.pid)
    time.sleep(1)
    before = sum(process.cpu_times()[:2])
    time.sleep(3)
    assert sum(process.cpu_times()[:2]) - before < 0.15


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_stop_their_rows(live: LiveProcess, world: World, stream: bool) -> None:
    """Answers that run one after another, so one runs and many wait when the clients leave.

    Where nothing is streamed, nothing is written either: only the closed connection tells.
    """
    live.post("/steer", long_request(world))
    before = live.health()["generated"]
    body = long_request(world, exact=True, stream=stream)
    host = live.settings.live_url.removeprefix("http://")
    clients = [HTTPConnection(host) for _ in range(30)]
    for client in clients:
        client.request("POST", "/steer", json.dumps(body), dict(live.client.headers))
    while (asked := live.health())["waiting"] < 30:
        time.sleep(0.01)
    for client in clients:
        client.close()
    live.wait_idle()
    every = 2 * len(clients) * body["max_new_tokens"]
    print(
        f"{asked['waiting']} answers waited; {live.health()['generated'] - before} tokens of {every}"
    )
    assert live.health()["generated"] - before < every / 2


def test_half_a_request_is_no_failure(live: LiveProcess, world: World) -> None:
    host = live.settings.live_url.removeprefix("http://")
    client = HTTPConnection(host)
    headers = dict(live.client.headers) | {"content-length": "1000"}
    client.request("POST", "/steer", b"{", headers)
    client.close()
    live.post("/steer", long_request(world))
    assert "/steer failed" not in live.log.read_text()


def long_request(world: World, **fields: Any) -> dict[str, Any]:
    """As long as the tiny model's context allows."""
    return {"model": world.id, "prompt": "x", "interventions": [], "max_new_tokens": 60} | fields


def test_nothing_is_restored_while_it_runs(own: LiveProcess) -> None:
    own.start()
    with pytest.raises(Conflict, match="worker live"), alone(own.settings.data_dir):
        pass
    assert own.stop() == 0
    with alone(own.settings.data_dir):
        refused = own.spawn()
        assert refused.wait(60) == 1
    assert "a backup is being restored to it" in own.log.read_text()


def test_sigterm_ends_it_with_streams_open(own: LiveProcess, world: World) -> None:
    own.start()
    body = long_request(world, stream=True)
    with own.client.stream("POST", "/steer", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert own.stop() == 0


@pytest.mark.parametrize(
    "seconds",
    [0.0, 1.0, 4.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.2, 0.5, 2.0, 8.0))],
)
def test_sigterm_ends_it_while_it_starts(own: LiveProcess, seconds: float) -> None:
    own.process = own.spawn()
    while not catches_sigterm(own.process.pid):
        time.sleep(0.01)
    time.sleep(seconds)
    began = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - began < 5


def catches_sigterm(pid: int) -> bool:
    """Whether the program has begun to run; before that the signal ends any process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_an_address_in_use_is_one_sentence(live: LiveProcess, own: LiveProcess) -> None:
    own.environment["SAESCOPE_LIVE_URL"] = live.settings.live_url
    assert own.spawn().wait(120) == 1
    log = own.log.read_text()
    assert "cannot listen on 127.0.0.1" in log and "Traceback" not in log


def test_it_loads_what_the_settings_name_before_it_answers(tmp_path: Path, world: World) -> None:
    running = LiveProcess(tmp_path, [world], SAESCOPE_LIVE_MODELS=f"nobody,{world.id}")
    try:
        assert running.start().health()["models"] == [world.id]
        assert "nobody is not registered yet" in running.log.read_text()
    finally:
        running.stop()
