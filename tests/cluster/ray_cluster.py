"""A Ray cluster of two nodes on this machine, of processes that are ours and end with us."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import psutil

AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Of this process as well: Ray reads it once, when it is first used, whoever does that."""
os.environ.update(AUTH)
PATIENCE_S = 240.0
PORTS = range(21_000, 29_000, 100)
"""Of nodes; below those that the system gives to connections."""


class RayCluster:
    """A head and a second node, of one CPU each, behind a token."""

    def __init__(self) -> None:
        # Sockets lie in it, whose paths may have 107 characters.
        self.folder = Path(mkdtemp(prefix="ray", dir="/tmp"))
        self.env = {
            **AUTH,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._log = self.folder / "nodes.log"
        base = _free_block()
        self.address = f"127.0.0.1:{base}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        head = ["--head", f"--port={base}", f"--ray-client-server-port={base + 1}"]
        self._start(*head, "--include-dashboard=false", ports=base + 2)
        self._start(f"--address={self.address}", ports=base + 50)

    def _start(self, *options: str, ports: int) -> None:
        command = [
            str(Path(sys.executable).with_name("ray")), "start", *options, "--block", "--num-cpus=1",
            "--num-gpus=0", "--object-store-memory=80000000", "--disable-usage-stats",
            "--include-log-monitor=false", f"--temp-dir={self.folder}",
            f"--dashboard-agent-listen-port={ports}", f"--min-worker-port={ports + 5}",
            f"--max-worker-port={ports + 45}",
        ]  # fmt: skip
        env = os.environ | self.env | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with self._log.open("ab") as log:
            self._nodes.append(
                subprocess.Popen(command, env=env, cwd=self.folder, stdout=log, stderr=log)
            )

        deadline = time.monotonic() + PATIENCE_S
        while self._log.read_text().count("Ray runtime started") < len(self._nodes):
            assert self._nodes[-1].poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def working(self, title: str = "ray::Member.do") -> list[psutil.Process]:
        """Processes of our actors: those at work now, or by another title's beginning."""
        found = []
        for node in self._nodes:
            for process in psutil.Process(node.pid).children(recursive=True):
                try:
                    if process.cmdline()[0].startswith(title):
                        found.append(process)
                except (psutil.NoSuchProcess, IndexError):
                    pass
        return found

    def close(self) -> None:
        """End all processes, by their numbers."""
        family = [
            child
            for node in self._nodes
            for child in [
                psutil.Process(node.pid),
                *psutil.Process(node.pid).children(recursive=True),
            ]
        ]
        for node in self._nodes:
            node.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
        for node in self._nodes:
            node.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_block() -> int:
    """The first of a hundred ports of which nobody uses the first."""
    for base in PORTS:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", base)) != 0:
                return base
    raise AssertionError("no ports are free")
