"""The API and the live worker as users start them, on a data folder of their own, and their callers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import torch

from app.settings import Settings
from app.store.engine import open_shelf
from app.store.migrate import migrate
from bench.live_callers import Callers
from bench.live_models import Case
from bench.served import CLI, Server, free_port
from bench.timing import Run
from tests.store import builders
from worker.jobs.job import Bench

FEATURES = 1_024
LOOKUP = "/v1/models/tiny/saes/0-res/features"
"""Random evidence of `FEATURES` features, to look up while others generate."""


class Caller:
    """A client with a connection of its own, which it keeps."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=600)

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a JSON body."""
        return orjson.loads(self._ask("POST", path, orjson.dumps(body)))

    def stream(self, path: str, body: dict[str, Any]) -> Iterable[bytes]:
        """The lines of a stream, as they come."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, orjson.dumps(body | {"stream": True}), headers)
        return self._connection.getresponse()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {content[:500]!r}")
        return content


class Service:
    """The two processes, while they run."""

    def __init__(self, port: int) -> None:
        self._port = port

    def caller(self) -> Caller:
        """A new client."""
        return Caller(self._port)

    def together(self, callers: Callers, n: int, **fields: Any) -> Run:
        """The requests of `n` callers at once; runs them and counts their tokens."""
        bodies = [callers.body(i, **fields) for i in range(n)]
        return lambda: sum(
            answer["usage"]["completion_tokens"] for answer in self.all("/v1/steer", bodies)
        )

    def all(self, path: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to requests sent at once."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            return list(threads.map(lambda body: self.caller().post(path, body), bodies))


@contextmanager
def service(data_dir: Path, cases: list[Case]) -> Iterator[Service]:
    """`saescope worker live` and `saescope serve`, with these models and with evidence to look up."""
    data_dir.mkdir()
    settings = Settings(data_dir=data_dir)
    _fill(settings, cases)
    live_url = f"http://127.0.0.1:{free_port()}"
    with (
        _live_worker(data_dir, live_url),
        Server(CLI, data_dir, settings.shelf_url, live_url) as app,
    ):
        yield Service(app.port)


def _fill(settings: Settings, cases: list[Case]) -> None:
    migrate(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    for case in cases:
        case.register(Bench(settings, shelf, torch.device("cpu"), 1.0))
    builders.fill(shelf, d_sae=FEATURES)
    shelf.close()


@contextmanager
def _live_worker(data_dir: Path, url: str) -> Iterator[None]:
    environment = {
        "SAESCOPE_DATA_DIR": str(data_dir),
        "SAESCOPE_LIVE_URL": url,
        "SAESCOPE_LIVE_DEVICE": "cpu",
    }
    command = [sys.executable, "-m", CLI, "worker", "live"]
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        _wait_for(process, int(url.rpartition(":")[2]))
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Until it answers, if only that the token is missing."""
    while process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError("the live worker ended before it answered")
