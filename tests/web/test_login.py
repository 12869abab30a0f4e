"""Signing in with a key, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.settings import Settings
from app.store import audit, keys
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.databases import prepare
from tests.web.browser import WAIT_MS
from tests.web.conftest import together

pytestmark = together
POST = """async ([url, headers]) => {
    const body = JSON.stringify({kind: "load", model: "m", path: "p"});
    headers["Content-Type"] = "application/json";
    const sent = fetch(url, {method: "POST", credentials: "include", headers, body});
    return await sent.then((answer) => answer.status, () => "refused");
}"""


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty one."""
    settings = Settings(data_dir=tmp_path)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    yield shelf
    shelf.close()


@pytest.fixture
def server(shelf: Shelf, tmp_path: Path) -> Iterator[ServerProcess]:
    """The API over it."""
    server = ServerProcess(Settings(data_dir=tmp_path, live_url=NOBODY)).start()
    yield server
    server.stop()


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A window of its own."""
    page = browser.new_page(base_url=server.url)
    page.set_default_timeout(WAIT_MS)
    yield page
    page.close()


def test_a_key_opens_the_pages_until_one_signs_out(
    page: Page, server: ServerProcess, shelf: Shelf
) -> None:
    key, text = keys.create(shelf, "Ada", "admin")
    page.goto("/jobs")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Key").fill("saescope_no_key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#refused")).to_contain_text("There is no such key")
    page.get_by_label("Key").fill(text)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_contain_text("Features do one")
    assert page.evaluate("document.cookie") == ""
    job = f"{server.url}/v1/jobs"
    assert page.evaluate(POST, [job, {}]) == 403
    token = page.locator("meta[name=csrf]").get_attribute("content")
    assert page.evaluate(POST, [job, {"X-CSRF-Token": token}]) == 202
    assert [one.who for one in audit.latest(shelf, 9)] == [key.id]
    page.goto("/login")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    page.goto("/jobs")
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_pages_of_others_cannot_ask_in_ones_name(
    page: Page, server: ServerProcess, shelf: Shelf
) -> None:
    _, text = keys.create(shelf, "Ada", "admin")
    page.goto("/login")
    page.get_by_label("Key").fill(text)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_contain_text("Features do one")
    token = page.locator("meta[name=csrf]").get_attribute("content")
    # The same service under another name is another site to the browser; without a policy of its own.
    page.route("**/elsewhere", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    page.goto(server.url.replace("127.0.0.1", "localhost") + "/elsewhere")
    for headers in ({}, {"X-CSRF-Token": token}):
        assert page.evaluate(POST, [f"{server.url}/v1/jobs", headers]) == "refused"
    assert audit.latest(shelf, 9) == []
