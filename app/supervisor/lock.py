"""One `saescope up` on a data folder."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

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
                f"Another `saescope up` ({_holder(file.read())}) serves the data folder "
                f"{settings.data_dir}; stop it, or set SAESCOPE_DATA_DIR to another folder."
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "port": settings.port}))
        file.flush()
        yield


def _holder(told: str) -> str:
    try:
        holder = json.loads(told)
        return f"process {holder['pid']}, port {holder['port']}"
    except (ValueError, KeyError):
        return "starting at this moment"
