"""Pictures of the pages in docs/pages, taken from a running service with the bundled evidence:

python -m tests.web.shots URL [FOLDER]
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.web.browser import WAIT_MS, launch

FOLDER = Path(__file__).parents[2] / "docs" / "pages"
WIDE, PHONE = (1280, 900), (390, 780)
MODEL = f"/models/{BUNDLED_MODEL}"
SAE = f"{MODEL}/saes/{BUNDLED_SAES[0]}"
TEXT = {
    "model": BUNDLED_MODEL,
    "text": "It was dark and Mia was alone. She clapped and danced. Two cups of tea cost three dollars.",
}
STEER = {
    "model": BUNDLED_MODEL,
    "steer": f"{BUNDLED_SAES[0]}:266:1.4:add",
    "prompt": "It was dark and Mia was alone. She",
    "seeds": 2,
    "tokens": 24,
    "strengths": "-1,0,0.5,1,2",
}


def tried(page: Page) -> None:
    """A text of one's own on a feature's page."""
    page.get_by_label("Your text").fill(
        'Tom saw that Mia was glad. "Why are you so happy?" he asked. She laughed and told him. He smiled.'
    )
    page.get_by_role("button", name="See where it fires").click()
    expect(page.locator("#tried .tokens")).to_be_visible()


def steered(page: Page) -> None:
    """Both tables of the steer page, written."""
    for button in ("Generate", "Sweep"):
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("button", name=button)).to_be_visible(timeout=3 * WAIT_MS)


def nothing(_page: Page) -> None:
    """The page as it comes."""


class Shot(NamedTuple):
    """A picture of a page."""

    name: str
    path: str
    before: Callable[[Page], None] = nothing
    """What is done there first."""
    size: tuple[int, int] = WIDE
    scheme: str = "light"


SHOTS = (
    Shot("feature", f"{SAE}/features/266", tried),
    Shot("feature-phone", f"{SAE}/features/266", size=PHONE, scheme="dark"),
    Shot("sae", SAE),
    Shot("neuron", f"{MODEL}/neurons/2/251"),
    Shot("text", f"/text?{urlencode(TEXT)}"),
    Shot("steer", f"/steer?{urlencode(STEER)}", steered),
)


def take(browser: Browser, url: str, shot: Shot, folder: Path) -> None:
    """Write one picture."""
    width, height = shot.size
    page = browser.new_page(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme=shot.scheme,  # pyright: ignore[reportArgumentType]
        locale="en-GB",
        bypass_csp=True,
    )
    page.set_default_timeout(WAIT_MS)
    answer = page.goto(shot.path)
    assert answer and answer.ok, f"{shot.path}: {answer and answer.status}"
    page.add_style_tag(content="html { scrollbar-gutter: auto }")  # Pictures have no scrollbar.
    shot.before(page)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=folder / f"{shot.name}.png")
    page.close()


def main(url: str, folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for shot in SHOTS:
            take(browser, url, shot, folder)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER)
