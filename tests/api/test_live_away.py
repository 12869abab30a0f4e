"""What callers see when the live worker is away, silent, a stranger, or breaks off, or the database
is silent; and that work ends when its caller leaves. The other side is a plain socket."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.errors import Unavailable
from app.settings import Settings
from app.store.migrate import migrate
from tests.api.conftest import client_of
from tests.api.server import ServerProcess, events_of
from tests.api.test_problems import problem_of

STEER = {"model": "tiny", "prompt": "x"}
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<h1>Hello</h1>"


def chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(line), line)


DELTA = chunk(b'{"event":"delta","answer":"steered","text":"a","tokens":["a"]}\n')
ERROR = chunk(b'{"event":"error","problem":{"type":"urn:saescope:problem:unavailable",'
              b'"title":"Not available now","status":503,"detail":"It is over."}}\n')  # fmt: skip


class Listener:
    """Takes connections, answers each with the same bytes after a while, and holds it until the other side
    closes it, or closes it at once."""

    def __init__(self, reply: bytes, hold: bool, after_s: float) -> None:
        self.reply, self.hold, self.after_s = reply, hold, after_s
        self.asked, self.closed = threading.Event(), threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            _whole_request(connection)
            time.sleep(self.after_s)
            connection.sendall(self.reply)
            self.asked.set()
            if self.hold:
                while connection.recv(65_536):
                    pass
        self.closed.set()


def _whole_request(connection: socket.socket) -> None:
    """Read all of it: closing on unread bytes resets the connection and takes the answer along."""
    head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0 and (more := connection.recv(missing)):
        missing -= len(more)


@contextmanager
def listening(reply: bytes = b"", hold: bool = True, after_s: float = 0) -> Iterator[Listener]:
    listener = Listener(reply, hold, after_s)
    try:
        yield listener
    finally:
        listener.socket.close()


def ask(folder: Path, url: str, body: dict[str, Any], **changes: Any) -> httpx.Response:
    """One steering request to an application whose live worker is at `url`."""
    settings = Settings(data_dir=folder, live_url=url, **changes)
    with client_of(settings) as client:
        return client.post("/v1/steer", json=body)


@pytest.mark.parametrize("stream", [False, True])
def test_silence_is_503_in_time(tmp_path: Path, stream: bool) -> None:
    with listening() as listener:
        answer = ask(tmp_path, listener.url, STEER | {"stream": stream}, live_timeout_s=0.3)
    assert "did not answer within 0.3 seconds" in problem_of(answer, 503)["detail"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_told_in_the_workers_words(tmp_path: Path, stream: bool) -> None:
    """The worker has the same time limit, and notices a little later."""
    problem = Unavailable("The answer was not complete within 0.3 s.").body()
    body = orjson.dumps(problem)
    head = (
        b"HTTP/1.1 503 Late\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
    )
    with listening(head % len(body) + body, after_s=0.6) as listener:
        answer = ask(tmp_path, listener.url, STEER | {"stream": stream}, live_timeout_s=0.3)
    assert problem_of(answer, 503)["detail"] == problem["detail"]


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "is not a live worker (status"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\n{}", "is not a live worker"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n[]", "is not a live worker"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", "refused our token; both processes"),
        (PAGE, "is not a live worker (status 200)"),
        (
            PAGE.replace(b"text/html\r\n", b"application/json\r\nContent-Encoding: gzip\r\n"),
            "is not a",
        ),
        (CHUNKED + chunk(b"<h1>Hello</h1>\n"), "is not a live worker (status 200)"),
        # strange, reset or closed: whichever the kernel tells first
        (b"SSH-2.0-OpenSSH_9.6\r\n", "cannot be reached ("),
        (b"", "cannot be reached ("),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_stranger_is_503(tmp_path: Path, reply: bytes, sentence: str, stream: bool) -> None:
    with listening(reply, hold=False) as listener:
        answer = ask(tmp_path, listener.url, STEER | {"stream": stream})
    assert sentence in problem_of(answer, 503)["detail"]


def test_a_stranger_is_not_ready(tmp_path: Path) -> None:
    json = PAGE.replace(b"text/html", b"application/json")
    for reply in (PAGE, json):
        with listening(reply, hold=False) as listener:
            settings = Settings(data_dir=tmp_path, live_url=listener.url)
            with client_of(settings) as client:
                migrate(settings.shelf_url)
                parts = problem_of(client.get("/readyz"), 503)["parts"]
        assert "is not a live worker (status 200)" in parts["live"]["detail"]


def test_an_error_before_the_first_event_is_a_problem(tmp_path: Path) -> None:
    with listening(CHUNKED + ERROR + chunk(b"")) as listener:
        answer = ask(tmp_path, listener.url, STEER | {"stream": True})
    assert problem_of(answer, 503)["detail"] == "It is over."


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        (ERROR + chunk(b""), "It is over."),
        (chunk(b""), "ended its answer in the middle"),
        (b"", "cannot be reached ("),  # reset or closed: whichever the kernel tells first
    ],
)
def test_an_error_after_it_is_an_event(tmp_path: Path, ending: bytes, sentence: str) -> None:
    with listening(CHUNKED + DELTA + ending, hold=False) as listener:
        answer = ask(tmp_path, listener.url, STEER | {"stream": True})
    assert answer.status_code == 200
    (first, _), (last, problem) = events_of(answer)
    assert (first, last) == ("delta", "error")
    assert '"status":503' in problem
    assert sentence in problem


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Callable[[Listener, dict[str, Any], bool], None]]:
    """Asks over HTTP and leaves: before the answer, or after the first event."""
    servers = []

    def leave(listener: Listener, body: dict[str, Any], after_event: bool) -> None:
        settings = Settings(data_dir=tmp_path, live_url=listener.url)
        migrate(settings.shelf_url)
        servers.append(ServerProcess(settings).start())
        client = httpx.Client(base_url=servers[-1].url, trust_env=False, timeout=30)
        if after_event:
            with client.stream("POST", "/v1/steer", json=body) as answer:
                assert next(answer.iter_lines()) == "event: delta"
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/steer", json=body, timeout=1.0)
        client.close()

    yield leave
    for server in servers:
        server.stop()


@pytest.mark.parametrize(("reply", "stream"), [(b"", False), (b"", True), (CHUNKED + DELTA, True)])
def test_who_leaves_ends_the_work(
    left: Callable[[Listener, dict[str, Any], bool], None], reply: bytes, stream: bool
) -> None:
    with listening(reply) as listener:
        left(listener, STEER | {"stream": stream}, bool(reply))
        assert listener.asked.is_set()
        assert listener.closed.wait(10)


def test_a_silent_database_holds_nobody_else_up(tmp_path: Path) -> None:
    path = "/v1/models/tiny/saes/0-res/features/3"
    with listening() as listener:
        database = listener.url.replace("http", "postgresql") + "/shelf"
        server = ServerProcess(Settings(data_dir=tmp_path, database_url=database)).start()
        try:
            with ThreadPoolExecutor() as pool:
                lookup = pool.submit(server.client.get, path, timeout=20)
                assert listener.asked.wait(10)
                assert server.client.get("/healthz", timeout=1).status_code == 200
                assert not lookup.done()
                assert "database does not answer" in problem_of(lookup.result(), 503)["detail"]
        finally:
            server.stop()
