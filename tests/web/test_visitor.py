"""Somebody who has never been here finds a feature for a word and steers with it, by what the pages say."""

import re

from playwright.sync_api import Page, expect

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.openapi.place import Place
from tests.web.browser import WAIT_MS
from tests.web.conftest import together

pytestmark = together
MOST_ACTIONS = 9


class Visitor:
    """Counts what somebody does."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.actions = 0

    def click(self, role: str, name: str) -> None:
        self.actions += 1
        self.page.get_by_role(role, name=re.compile(name)).first.click()  # pyright: ignore[reportArgumentType]

    def type(self, label: str, text: str) -> None:
        self.actions += 1
        self.page.get_by_label(label).first.fill(text)


def test_from_the_first_page_to_a_steered_text(page: Page, place: Place) -> None:
    known = place.server.client.get(
        f"/v1/models/{BUNDLED_MODEL}/saes/{BUNDLED_SAES[0]}/features/12"
    ).json()
    (word,) = re.findall(r"[a-z]{3,}", known["logits"]["top"][0]["token"].lower())[:1] or ["the"]
    visitor = Visitor(page)
    page.goto("/")
    section = page.locator("section", has=page.get_by_role("link", name=BUNDLED_MODEL, exact=True))
    visitor.actions += 2
    section.get_by_label("Find a feature").fill(word)
    section.get_by_role("button", name="Find").click()
    visitor.click("link", r"^2-(?!stuck)\S+ \d+$")
    expect(page.get_by_role("heading", name="Steer with it")).to_be_visible()
    visitor.type("Prompt", "The old sailor")
    visitor.click("button", "^Generate$")
    expect(page.get_by_role("button", name="Generate")).to_be_visible(timeout=3 * WAIT_MS)
    baseline, steered = (page.locator(at).inner_text() for at in ("#baseline", "#steered"))
    assert baseline.strip() and steered.strip()
    assert visitor.actions <= MOST_ACTIONS
