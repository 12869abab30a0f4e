"""The API as a real process."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx

from app.settings import Settings

SERVE = "from app.main import serve; from app.settings import Settings; serve(Settings())"


class ServerProcess:
    """`app.main.serve` and a client for it. Everything it prints goes to `log`."""

    def __init__(self, settings: Settings, **environment: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = settings.data_dir / f"app-{port}.log"
        self.environment = {
            "SAESCOPE_DATA_DIR": str(settings.data_dir),
            "SAESCOPE_DATABASE_URL": settings.shelf_url,
            "SAESCOPE_LIVE_URL": settings.live_url,
            "SAESCOPE_PORT": str(port),
            **environment,
        }
        if settings.database_url is None:
            del self.environment["SAESCOPE_DATABASE_URL"]
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def start(self, program: str = SERVE) -> "ServerProcess":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.client.get("/healthz").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"not up:\n{self.log.read_text()}")

    def stop(self) -> int:
        """End it as a supervisor does; its exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def events_of(answer: httpx.Response) -> list[tuple[str, str]]:
    """Names and data of a stream's events, as far as it goes."""
    return events_in(answer.read())


def events_in(stream: bytes) -> list[tuple[str, str]]:
    """The same of what was read; half an event at its end does not count."""
    found = []
    for block in stream.decode(errors="ignore").split("\n\n")[:-1]:
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        if fields:
            found.append((fields["event"], fields["data"]))
    return found
