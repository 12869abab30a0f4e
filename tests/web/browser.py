"""Chromium, as it is found on this machine, and what tests ask of a page."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What Chromium is called where a package manager installed it."""
WAIT_MS = 30_000
"""For anything to happen on a page: machines that test are busy."""
MOST_KEYS = 100
"""Presses of Tab within which a page's every place must be reached."""


def launch(playwright: Playwright) -> Browser:
    """Start Chromium; skips the test where there is none."""
    # Chromium does not start as root, in a container for example, unless it is told to go without.
    return playwright.chromium.launch(
        executable_path=find(playwright.chromium.executable_path), args=["--no-sandbox"]
    )


def find(downloaded: str) -> str:
    """Chromium's program: a package manager's, or where Playwright would have downloaded its own."""
    found = next(filter(None, map(shutil.which, NAMES)), downloaded)
    if not Path(found).exists():
        pytest.skip(
            "there is no Chromium: install the package `chromium`, or run `playwright install "
            "chromium`"
        )
    return found


def overflow(page: Page) -> int:
    """Pixels that a page is wider than its window."""
    root = "document.documentElement"
    return page.evaluate(f"Math.max(0, {root}.scrollWidth - {root}.clientWidth)")


def tab_to(page: Page, place: Locator) -> None:
    """Press Tab until a place has the focus."""
    for _ in range(MOST_KEYS):
        page.keyboard.press("Tab")
        if place.evaluate("place => place === document.activeElement"):
            return
    raise AssertionError(f"{place} is not reached by Tab")
