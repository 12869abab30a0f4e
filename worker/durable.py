"""Folders that are either there whole or not at all, also after a power cut.

While a folder is being filled it has a name of its own and is locked, so `sweep` can tell it from one
that a crash left. The lock is on a file beside it: on NFS those on folders are seen by one machine alone.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_SCRATCH = re.compile(r"\..+\.[0-9a-f]{16}")


def write_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a new folder, which then gets the name `final`.

    A folder that is there already stays as it is, and counts as used just now.
    """
    if not is_there(final):
        with new_folder(final) as folder:
            fill(folder)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A new folder beside `final`, to be filled; in the end it is brought to disk, then renamed.

    Several may write the same folder at a time: each fills one of its own, and the first to end
    gives it its name.
    """
    scratch, lock = _make_scratch(final)
    try:
        yield scratch
        for path in [*scratch.rglob("*"), scratch]:
            sync(path)
        _rename(scratch, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _lock_of(scratch).unlink(missing_ok=True)
        lock.close()
    sync(final.parent)


def sweep(parent: Path) -> None:
    """Remove the folders that were being filled in `parent` when something crashed."""
    folders = {
        path for path in parent.glob(".*") if _SCRATCH.fullmatch(path.name) and path.is_dir()
    }
    # A lock without a folder is left where a crash came between the two.
    locked = {path.with_suffix("") for path in parent.glob(".*.lock")}
    for path in folders | {path for path in locked if _SCRATCH.fullmatch(path.name)}:
        if (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            _lock_of(path).unlink(missing_ok=True)
            lock.close()


def _make_scratch(final: Path) -> tuple[Path, IO[str]]:
    """A new folder and the lock on it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    while True:
        scratch = scratch_name(final)
        if (lock := _lock(scratch)) is not None:
            scratch.mkdir()
            return scratch, lock


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lock(folder: Path) -> IO[str] | None:
    """The lock of a folder, which one can have; None when another has it, or has removed it just now."""
    path = _lock_of(folder)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


def remove_folder(folder: Path) -> bool:
    """Take a folder's name away at once, then its files; whether it is gone. Another process may do
    the same."""
    doomed = scratch_name(folder)
    with suppress(FileNotFoundError):
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    return not doomed.exists()


def copy_file(source: Path, final: Path) -> None:
    """Copy a file, there whole or not at all, over one that has its name."""
    scratch = scratch_name(final)
    shutil.copyfile(source, scratch)
    sync(scratch)
    scratch.replace(final)
    sync(final.parent)


def scratch_name(final: Path) -> Path:
    """A name of one's own beside `final`, of the form that `sweep` knows."""
    return final.with_name(f".{final.name}.{secrets.token_hex(8)}")


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(scratch: Path, final: Path) -> None:
    try:
        os.rename(scratch, final)
    except OSError:
        if not is_there(final):
            raise


def is_there(folder: Path) -> bool:
    """Whether a folder exists; touches it, so that it is not collected as left alone."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return folder.is_dir()
