"""The running service and a browser.

    def test_a_page(page: Page, place: Place) -> None:
        page.goto("/models")

A console error, an exception or a refused file fails the test; one that provokes such a complaint on
purpose looks at `complaints` and clears it.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.live.world import World
from tests.openapi.place import Place
from tests.web.browser import WAIT_MS, launch
from tests.web.place import pages

expect.set_options(timeout=WAIT_MS)
together = pytest.mark.xdist_group("web")
"""For what takes the place: it is there once."""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, llama: World) -> Iterator[Place]:
    """The API and a live worker over a filled shelf."""
    with pages(tmp_path_factory.mktemp("web"), llama) as place:
        yield place


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with this room's tests, as its event loop lets no other run on the thread."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about."""
    return []


@pytest.fixture
def window(browser: Browser, place: Place, complaints: list[str]) -> Iterator[BrowserContext]:
    """A window whose addresses begin at the service. Fails the test for every complaint."""
    window = browser.new_context(
        base_url=place.server.url, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    window.set_default_timeout(WAIT_MS)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    window.on("console", on_console)
    window.on("weberror", lambda error: complaints.append(f"exception: {error.error}"))
    yield window
    window.close()
    assert not complaints


@pytest.fixture
def page(window: BrowserContext) -> Page:
    """An empty page of that window."""
    return window.new_page()
