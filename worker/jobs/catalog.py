"""Keeping the catalog of pretrained SAEs up to date, beside the jobs and without delaying them."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import app
from app.store import catalog
from app.store.engine import Shelf
from worker.catalog import installed

log = logging.getLogger("saescope.jobs")

_LEASH = Path(str(app.__file__)).parent / "supervisor" / "leash.py"
_READER = (sys.executable, "-P", "-m", "worker.catalog")


def keep_catalog(shelf: Shelf) -> None:
    """Have the catalog read by a process of its own, when it is not that of the installed SAELens."""
    if catalog.source(shelf) != installed():
        threading.Thread(target=_read, name="catalog", daemon=True).start()


def _read() -> None:
    # Reading holds the interpreter for a second, so that jobs in this process would stand still.
    command = [sys.executable, str(_LEASH), str(os.getpid()), *_READER]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, start_new_session=True
    )
    if done.returncode:
        log.error("The catalog of pretrained SAEs was not read: %s", done.stderr.strip()[-2_000:])
