"""No orphans: a process that ends when the one that started it is gone, however that ended.

On Linux the kernel sends SIGTERM the moment the parent is gone; elsewhere, and for a process that
does not end on SIGTERM, a thread watches the parent's id.
"""

import ctypes
import os
import signal
import sys
import threading
import time

GRACE_S = 10.0
"""Seconds between SIGTERM and the hard end."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process when its parent ends. Call it first thing in the process.

    On Linux "parent" is the thread that started it: start children from a thread that stays.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch, args=(parent,), name="orphan", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
