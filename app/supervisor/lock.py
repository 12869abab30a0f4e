"""Who works on a data folder: one `saescope up`, one jobs worker of each number."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import Conflict
from app.settings import Settings


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the data folder. Raises Conflict, naming the holder, when another process does.

    The kernel lets go of the lock when the process ends, however it ends.
    """
    with (settings.data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Conflict(
                f"Another `saescope up` (process {file.read() or 'just starting'}) serves the data "
                f"folder {settings.data_dir}; stop it, or set SAESCOPE_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def jobs_worker_runs(settings: Settings) -> bool:
    """Whether a jobs worker holds its lock in this data folder."""
    return any(is_locked(path) for path in settings.data_dir.glob("jobs-*.lock"))


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
