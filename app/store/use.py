"""Who uses a data folder: many at once, or one restore alone.

The kernel lets go of the locks when a process ends, however it ends.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import Conflict

_FILE = "use.lock"


@contextmanager
def using(data_dir: Path) -> Iterator[None]:
    """Use a data folder beside others. Conflict while a backup is restored to it."""
    with _locked(
        data_dir, fcntl.LOCK_SH, "a backup is being restored to it; wait until it is done"
    ):
        yield


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Be the only user of a data folder. Conflict when there is another."""
    users = "`saescope serve` runs on it, `saescope worker live` or `saescope gc`; stop it"
    with _locked(data_dir, fcntl.LOCK_EX, users):
        yield


@contextmanager
def _locked(data_dir: Path, kind: int, otherwise: str) -> Iterator[None]:
    # Opened for both: NFS refuses a shared lock on what cannot be read.
    with (data_dir / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"The data folder {data_dir} is in use: {otherwise}.") from None
        yield
