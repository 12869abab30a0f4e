"""Runs a command that dies with its parent: `python leash.py <parent's pid> <command> ...`.

On Linux the kernel does it: the death signal is set, then the command takes this process over.
Elsewhere this process stays, looks at its parent twice a second, and kills its process group.

Standard library only, and run as a file: it must be quick, and it must not import `app`.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put this process on the leash and run the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        become(parent, command)
    else:
        sys.exit(watch(parent, command))


def become(parent: int, command: list[str]) -> None:
    """Turn into the command, to be killed when `parent` dies. Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the signal was set.
    if os.getppid() == parent:
        os.execv(command[0], command)


def watch(parent: int, command: list[str]) -> int:
    """Run the command; when `parent` is gone, kill this process group."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while child.poll() is None:
        if os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)
        time.sleep(0.5)
    return child.returncode


if __name__ == "__main__":
    main()
