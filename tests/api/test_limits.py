"""What an API process takes on: connections, bodies and streams, by strangers and by callers."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from app.store import keys
from app.store.engine import open_shelf
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.live.process import LiveProcess
from tests.live.world import World

HEAD = "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
LITTLE = {
    "SAESCOPE_READ_TIMEOUT_S": "1.5",
    "SAESCOPE_MAX_BODY_BYTES": "1000",
    "SAESCOPE_MAX_STREAMS": "2",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A process with little patience and little room."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("little"), live_url=NOBODY)
    prepare(settings.shelf_url)
    running = ServerProcess(settings, **LITTLE).start()
    yield running
    assert running.process and running.process.poll() is None
    running.stop()


def connect(server: ServerProcess, sent: str = "") -> socket.socket:
    """A connection on which something was sent."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(30)
    connection.sendall(sent.encode())
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the other side closes; fails when it does not."""
    told = bytearray()
    try:
        while data := connection.recv(65_536):
            told += data
    except ConnectionResetError:
        pass
    return bytes(told)


@pytest.mark.parametrize("sent", ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: 127.0"])
def test_silent_connections_are_closed(server: ServerProcess, sent: str) -> None:
    with connect(server, sent) as connection:
        assert rest_of(connection) == b""


def test_a_head_that_trickles_is_not_waited_for(server: ServerProcess) -> None:
    """Not for the first request of a connection, nor for the second."""
    whole = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(server, whole) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError):
            for letter in whole * 10:
                connection.sendall(letter.encode())
                time.sleep(0.05)


def test_an_endless_head_is_431(server: ServerProcess) -> None:
    with connect(server, "GET /healthz HTTP/1.1\r\n") as connection, pytest.raises(OSError):
        for i in range(3_000):
            connection.sendall(f"X-{i}: {'y' * 1000}\r\n".encode())
    with connect(server, f"GET /{'y' * 70_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n") as connection:
        assert rest_of(connection).startswith(b"HTTP/1.1 431")


def test_bytes_behind_an_answer_keep_no_connection_open(server: ServerProcess) -> None:
    """Neither empty lines nor the rest of a body that was refused are another request."""
    with connect(server, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert rest_of(connection) in (b"", b'{"status":"ok"}')  # the answer's end
    with connect(server, HEAD + "Content-Length: 9999999\r\n\r\n") as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
        connection.sendall(b"x")
        assert b"HTTP/1.1" not in rest_of(connection)


def test_who_does_not_read_is_left(server: ServerProcess) -> None:
    asked = "GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    size = len(server.client.get("/openapi.json").content)
    many = 20_000_000 // size
    with connect(server, asked * many) as connection:
        time.sleep(6)  # four times the patience
        assert len(rest_of(connection)) < many * size / 2


def test_bodies_of_strangers_are_small(server: ServerProcess) -> None:
    """Where no key is asked for."""
    told = server.client.post("/login", json={"key": "x" * 5_000})
    assert told.status_code == 413


def test_a_body_that_does_not_come_is_408(server: ServerProcess) -> None:
    with connect(server, HEAD + "Content-Length: 100\r\nConnection: close\r\n\r\n{") as connection:
        told = rest_of(connection)
    assert told.startswith(b"HTTP/1.1 408") and b"SAESCOPE_READ_TIMEOUT_S" in told


def test_bodies_have_a_limit_together(server: ServerProcess) -> None:
    """Sixteen of the largest size may be held; they are let go of when their senders leave."""
    half = HEAD + "Content-Length: 999\r\n\r\n" + " " * 990
    body = {"kind": "x" * 900}
    told = []
    with ExitStack() as senders:
        for _ in range(40):  # each is patient for less than two seconds, so some go again
            senders.enter_context(connect(server, half))
            told.append(server.client.post("/v1/jobs", json=body))
    assert {answer.status_code for answer in told} == {422, 429}, told
    refused = [answer for answer in told if answer.status_code == 429]
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    deadline = time.monotonic() + 30
    while server.client.post("/v1/jobs", json=body).status_code != 422:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_streams_past_the_limit_are_429(server: ServerProcess) -> None:
    """A job that no worker takes is watched; a stream that ends makes room."""
    spec = {"kind": "verify", "model": "m", "sae": "s"}
    job = server.client.post("/v1/jobs", json=spec).raise_for_status().json()["id"]
    path = f"/v1/jobs/{job}/events"
    with server.client.stream("GET", path) as first, server.client.stream("GET", path) as second:
        # Kept: a stream whose iterator is gone is closed.
        begun = first.iter_raw(), second.iter_raw()
        assert all(next(one) for one in begun)
        refused = server.client.get(path)
        assert refused.status_code == 429 and "SAESCOPE_MAX_STREAMS" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
    deadline = time.monotonic() + 30
    while True:
        with server.client.stream("GET", path) as third:
            if third.status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_wrong_many_times_is_told_a_few(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, live_url=NOBODY)
    prepare(settings.shelf_url)
    server = ServerProcess(settings).start()
    try:
        body = {"model": "x", "saes": ["a"], "texts": [1] * 100_000}
        told = server.client.post("/v1/activations", json=body)
        assert told.status_code == 422 and len(told.content) < 20_000
        assert len(told.json()["errors"]) == 20 and "99999 more" in told.json()["detail"]
        body["texts"] = [1] * 200_000
        assert server.client.post("/v1/activations", json=body).status_code == 413
    finally:
        server.stop()


def test_a_key_has_a_quarter_of_the_streams_and_none_when_it_is_revoked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, live_url=NOBODY)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    made = {name: keys.create(shelf, name, "admin") for name in ("one", "other")}
    one, other = ({"x-api-key": text} for _, text in made.values())
    server = ServerProcess(settings, SAESCOPE_MAX_STREAMS="8").start()
    spec = {"kind": "verify", "model": "m", "sae": "s"}
    job = server.client.post("/v1/jobs", json=spec, headers=one).raise_for_status().json()["id"]
    path = f"/v1/jobs/{job}/events"
    try:
        with ExitStack() as stack:
            opened = [
                stack.enter_context(server.client.stream("GET", path, headers=one))
                for _ in range(2)
            ]
            frames = [stream.iter_raw() for stream in opened]
            assert all(next(frame) for frame in frames)
            refused = server.client.get(path, headers=one)
            assert refused.status_code == 429 and "This key has 2" in refused.json()["detail"]
            third = stack.enter_context(server.client.stream("GET", path, headers=other))
            assert third.status_code == 200
            keys.revoke(shelf, made["one"][0].id)
            for frame in frames:
                list(frame)  # it ends, or the test runs out of time
    finally:
        server.stop()
        shelf.close()


def test_bodies_of_strangers_are_not_read(tmp_path: Path) -> None:
    """Where keys are asked for, a request without one is answered before its body comes."""
    settings = Settings(data_dir=tmp_path, live_url=NOBODY)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    keys.create(shelf, "test", "admin")
    shelf.close()
    server = ServerProcess(settings).start()
    try:
        with connect(server, HEAD + "Content-Length: 8000000\r\n\r\n{") as connection:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
    finally:
        server.stop()


def test_a_full_live_worker_is_429_in_every_shape(
    tmp_path_factory: pytest.TempPathFactory, world: World
) -> None:
    """With when to come again, and without harm to who was taken on."""
    few = {"SAESCOPE_MAX_LIVE_TOKENS": "130"}
    live = LiveProcess(tmp_path_factory.mktemp("full"), [world], **few).start()
    server = ServerProcess(live.settings).start()
    steer = {"model": world.id, "prompt": "x", "max_new_tokens": 60, "baseline": False}
    complete = {"model": world.id, "prompt": "x", "max_tokens": 60}
    try:
        for path, body in [
            ("/v1/steer", steer),
            ("/v1/steer", steer | {"stream": True}),
            ("/v1/completions", complete),
            ("/v1/completions", complete | {"stream": True}),
        ]:
            _check_full(server, path, body)
        assert live.health()["tokens"] == 0
    finally:
        server.stop()
        live.stop()


def _check_full(server: ServerProcess, path: str, body: dict[str, Any]) -> None:
    def ask(_: int) -> httpx.Response:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            return client.post(path, json=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert {answer.status_code for answer in answers} == {200, 429}, answers
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert "SAESCOPE_MAX_LIVE_TOKENS" in answer.text
            assert "rate_limit_exceeded" in answer.text or path == "/v1/steer"
        else:
            assert '"error"' not in answer.text
