"""Installs Chromium for the tests of pages, where that can be done: `python -m tests.web.install`.

From Debian's or Ubuntu's packages when this is root, else as Playwright does it. Says what came of it, and never
fails: without a browser those tests are skipped, and say so.
"""

import os
import shutil
import subprocess
import sys

from tests.web.browser import NAMES

LIMIT_S = 90
PACKAGE = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]
DOWNLOAD = [sys.executable, "-m", "playwright", "install", "chromium"]


def main() -> None:
    if found := _installed():
        print(f"Pages are tested in {found}.")
        return
    print("Installing Chromium for the tests of pages.", flush=True)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _done(["apt-get", "update", "-q"]) and _done(PACKAGE)
    if not _installed() and not _done(DOWNLOAD):
        print(
            "Chromium could not be installed: the tests of pages will be skipped. Install the package "
            "`chromium` to run them."
        )


def _installed() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def _done(command: list[str]) -> bool:
    """Whether a command succeeded in time."""
    try:
        ran = subprocess.run(command, check=False, capture_output=True, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.returncode == 0


if __name__ == "__main__":
    main()
