"""Spills that are kept for later runs over more text, and how much disk they may take.

A run holds a shared lock on each spill that it works on. Whoever removes one needs it alone. Several
processes may use and trim the same spills, so any folder can be gone by the time it is looked at.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.durable import remove_folder, sweep


@contextmanager
def in_use(spills: Iterable[Path]) -> Iterator[None]:
    """Keep these spill folders from being removed, and clear them of what crashes left. Each counts
    as used just now."""
    files = []
    try:
        for folder in spills:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Opened for both: NFS refuses a shared lock on what cannot be read.
            files.append(_lock_of(folder).open("a+"))
            fcntl.flock(files[-1], fcntl.LOCK_SH)
            folder.mkdir(exist_ok=True)  # under the lock: nobody removes it between mkdir's looks
            folder.touch()
            sweep(folder)
        yield
    finally:
        for file in files:
            file.close()


def trim(spill_dir: Path, most: int) -> None:
    """Remove the spills that were not used for longest, until the others take `most` bytes."""
    for of_dictionary in spill_dir.glob("*/"):
        sweep(of_dictionary)
    folders = [folder for folder in spill_dir.glob("*/*/") if not folder.name.startswith(".")]
    sizes = {folder: _size(folder) for folder in sorted(folders, key=_used)}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= most:
            break
        if _remove(folder):
            total -= size


def _remove(folder: Path) -> bool:
    """Whether nobody used it, so that it is gone."""
    with _lock_of(folder).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return remove_folder(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _used(folder: Path) -> float:
    """When it was used last."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
