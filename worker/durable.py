"""Folders that are either there whole or not at all, also after a power cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a new folder beside `final`, bring it to disk, then rename it.

    `final` must not exist. A folder that an earlier attempt left half-written is thrown away.
    """
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    for path in [*partial.iterdir(), partial]:
        _sync(path)
    os.rename(partial, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
