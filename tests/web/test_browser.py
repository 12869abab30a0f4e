"""What the fixtures promise: that complaints of the browser are seen, and that pages load without any."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.web.browser import find, overflow, tab_to
from tests.web.conftest import together

pytestmark = together
SAE = f"/models/{BUNDLED_MODEL}/saes/{BUNDLED_SAES[0]}"


@pytest.mark.parametrize("path", ["/", f"/models/{BUNDLED_MODEL}", SAE, f"{SAE}/features/12"])
def test_a_page_loads_without_a_complaint(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer and answer.status == 200
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate("typeof htmx") == "object"


def test_complaints_are_seen(page: Page, complaints: list[str]) -> None:
    page.goto("/")
    page.evaluate("setTimeout(() => { throw new Error('on purpose') })")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: '/no'}))")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">')")
    page.wait_for_timeout(500)
    told = "\n".join(complaints)
    complaints.clear()
    assert "exception: on purpose" in told
    assert "404" in told and "/no)" in told
    assert "Content Security Policy" in told


def test_the_helpers_tell_width_and_focus(page: Page) -> None:
    page.goto("/")
    assert overflow(page) == 0
    page.evaluate("document.body.append(new Image(4000, 1))")
    assert overflow(page) > 2000
    tab_to(page, page.get_by_role("link", name="API"))
    assert page.evaluate("document.activeElement.textContent") == "API"


def test_without_a_browser_tests_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="there is no Chromium"):
        find(str(tmp_path / "chrome"))
