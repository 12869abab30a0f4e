"""The real API process for benches: `saescope serve`, and the same with a constant route.

python -m bench.served      `saescope serve`, plus GET /bench/constant/{bytes}
"""

import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Self

from fastapi import FastAPI
from starlette.responses import Response

CLI = "app.cli.main"
WITH_CONSTANT = "bench.served"


class Server:
    """A process that answers HTTP, from start to end of a `with` block."""

    def __init__(
        self, module: str, data_dir: Path, database_url: str, live_url: str = "http://127.0.0.1:9"
    ) -> None:
        self.port = free_port()
        environment = {
            "SAESCOPE_DATA_DIR": str(data_dir),
            "SAESCOPE_PORT": str(self.port),
            "SAESCOPE_LIVE_URL": live_url,
        }
        if not database_url.startswith("sqlite"):
            environment["SAESCOPE_DATABASE_URL"] = database_url
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve"], env=os.environ | environment
        )
        self._wait()
        self.ready_seconds = time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def _wait(self) -> None:
        while self.process.poll() is None:
            try:
                self.get("/healthz")
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError("the API ended before it answered")

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        return self._ask("GET", path)

    def post(self, path: str, body: bytes) -> bytes:
        """The body of the answer to a JSON body."""
        return self._ask("POST", path, body, {"Content-Type": "application/json"})

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {content[:500]!r}")
        return content

    def cpu_seconds(self) -> float:
        """Processor time that the process used so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """The most memory that the process ever had resident (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def constant(size: int) -> Response:
    """A JSON string of as many bytes as the path asks for."""
    return Response(b'"' + b"x" * (size - 2) + b'"', media_type="application/json")


def main() -> None:
    """Serve with the constant route in front of all others, behind the same middleware."""
    from app import main as program
    from app.cli.main import main as command_line

    create_app = program.create_app

    def with_constant(settings: program.Settings) -> FastAPI:
        app = create_app(settings)
        app.add_api_route("/bench/constant/{size}", constant, include_in_schema=False)
        app.router.routes.insert(0, app.router.routes.pop())
        return app

    program.create_app = with_constant
    command_line()


if __name__ == "__main__":
    main()
