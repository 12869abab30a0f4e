"""A real `saescope up` on a data folder of its own, driven as a user drives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

SAESCOPE = str(Path(sys.executable).with_name("saescope"))


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Service:
    """`saescope up` as a subprocess; everything it prints goes to `output`."""

    def __init__(self, data_dir: Path, cwd: Path | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = data_dir.with_name(data_dir.name + ".out")
        self.cwd = cwd
        self.env = clean_env() | {
            "SAESCOPE_DATA_DIR": str(data_dir),
            "SAESCOPE_PORT": str(self.port),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Service":
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [SAESCOPE, "up"], env=self.env, cwd=self.cwd, stdout=out, stderr=out
            )
        return self

    def wait_ready(self, timeout: float = 420) -> "Service":
        """Until /readyz says 200; fails with what `up` printed when it ends or takes too long."""
        assert self.process
        deadline = time.monotonic() + timeout
        seen: object = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"`saescope up` ended:\n{self.printed()}")
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=5)
                if answer.status_code == 200:
                    return self
                seen = answer.text
            except httpx.TransportError as error:
                seen = error
            time.sleep(0.3)
        raise AssertionError(f"not ready after {timeout} s: {seen}\n{self.printed()}")

    def wait_printed(self, part: str, timeout: float) -> None:
        """Until it has printed this."""
        deadline = time.monotonic() + timeout
        while part not in self.printed():
            assert time.monotonic() < deadline, f"no `{part}` in:\n{self.printed()}"
            time.sleep(0.1)

    def printed(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def cli(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run another `saescope` command on the same data folder."""
        return subprocess.run(
            [SAESCOPE, *arguments],
            check=False,
            env=self.env,
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def stop(self, how: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Signal the supervisor and wait for it; returns its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def clean_env() -> dict[str, str]:
    """The environment without saescope's settings, and with nothing fetched or reported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SAESCOPE_")}
    return kept | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
