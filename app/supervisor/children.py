"""One process of `saescope up`: started on a leash, started again when it dies, ended cleanly.

All of it runs on the main thread: on Linux a child's leash is tied to the thread that started it.
What a child prints goes to its log; warnings and errors also to the console.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

LEASH = Path(__file__).with_name("leash.py")
IMPORTANT = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^saescope: ")
LOG_BYTES = 50 * 2**20
"""A log that is longer takes the place of the one before it, `.1`."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
POLL_S = 0.05
SETTLED_S = 60.0
"""A child that lived this long counts as healthy: its next pause is the first again."""


class Child:
    """A process that is kept alive."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: dict[str, str],
        log: Path,
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-P", *command]
        self._env = env
        self._log = log
        self._say = say
        self._pause = FIRST_PAUSE_S
        self._due = 0.0
        self._started = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._pump: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def tick(self) -> None:
        """Notice that it died; start it when it is time to."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._due:
                self._start()
            return
        code = self._process.poll()
        if code is None:
            return
        self._process = None
        self._pause = FIRST_PAUSE_S if now - self._started > SETTLED_S else self._pause
        self._due = now + self._pause
        self._say(
            f"{self.name} ended ({_how(code)}) and is started again in {self._pause:g} s; its log: "
            f"{self._log}"
        )
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)

    def signal(self, number: int) -> None:
        """Send a signal to the process and to what it has started."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def end(self, impatient: Callable[[], bool]) -> None:
        """Wait until it has ended; kill it when `impatient` becomes true."""
        if self._process is None:
            return
        while self._process.poll() is None and not impatient():
            time.sleep(POLL_S)
        if self._process.poll() is None:
            self._say(f"{self.name} does not end and is killed.")
        self.signal(signal.SIGKILL)
        self._process.wait()
        if self._pump:
            self._pump.join(timeout=1.0)

    def _start(self) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(LEASH), str(os.getpid()), *self._command],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._pump = threading.Thread(target=self._copy, args=[self._process.stdout], daemon=True)
        self._pump.start()

    def _copy(self, output: TextIO) -> None:
        with output:
            while self._copy_some(output):
                self._log.replace(f"{self._log}.1")

    def _copy_some(self, output: TextIO) -> bool:
        """Copy until the log is long; whether there may be more."""
        with self._log.open("a", buffering=1) as log:
            for line in output:
                log.write(line)
                if IMPORTANT.search(line):
                    self._say(f"{self.name}: {line.strip()}")
                if os.fstat(log.fileno()).st_size > LOG_BYTES:
                    return True
        return False


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
