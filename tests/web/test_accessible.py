"""axe finds nothing serious on any page, in light and dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.contract.bundled import BUNDLED_MODEL
from tests.web.conftest import together
from tests.web.test_pages import FEATURE, PAGES, TEXT

pytestmark = together
STEER = f"/steer?model={BUNDLED_MODEL}&steer=2-res-topk:12:0.75:add"
FOUND = ("serious", "critical")


def findings(page: Page) -> list[str]:
    """Rules that are broken, with the first element of each."""
    answer = Axe().run(page).response
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in answer["violations"]
        if one["impact"] in FOUND
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", [*PAGES, f"{TEXT}&token=3", f"{FEATURE}?embed=true", STEER])
def test_nothing_serious(page: Page, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()
    assert not findings(page)


def test_axe_finds_what_is_wrong(page: Page) -> None:
    page.goto("/")
    page.evaluate("document.querySelector('main').append(new Image())")
    assert any(one.startswith("image-alt") for one in findings(page))
