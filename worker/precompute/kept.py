"""Spills that are kept for later runs over more text, and how much disk they may take.

A run holds a shared lock on each spill that it works on. Whoever removes one needs it alone.
"""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.durable import scratch_name


@contextmanager
def in_use(spills: Iterable[Path]) -> Iterator[None]:
    """Keep these spill folders from being removed. Each counts as used just now."""
    files = []
    try:
        for folder in spills:
            folder.mkdir(parents=True, exist_ok=True)
            files.append(_lock_of(folder).open("w"))
            fcntl.flock(files[-1], fcntl.LOCK_SH)
            folder.mkdir(exist_ok=True)  # if it was removed before the lock was ours
            folder.touch()
        yield
    finally:
        for file in files:
            file.close()


def trim(spill_dir: Path, most: int) -> None:
    """Remove the spills that were not used for longest, until the others take `most` bytes."""
    folders = sorted(
        (folder for folder in spill_dir.glob("*/*/") if not folder.name.startswith(".")),
        key=lambda folder: folder.stat().st_mtime,
    )
    sizes = {folder: _size(folder) for folder in folders}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= most:
            break
        if _remove(folder):
            total -= size


def _remove(folder: Path) -> bool:
    """Whether nobody used it, so that it is gone."""
    with _lock_of(folder).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        doomed = scratch_name(folder)
        folder.rename(doomed)
        shutil.rmtree(doomed)
    return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
