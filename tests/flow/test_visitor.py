"""Somebody who has never been here finds a feature for a word and steers with it, by what the pages say."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES, BUNDLED_SPLIT
from tests.flow.conftest import on_sqlite
from tests.flow.service import Service
from tests.web.browser import WAIT_MS, launch

pytestmark = [pytest.mark.timeout(600), on_sqlite]
MODEL = f"/models/{BUNDLED_MODEL}"
MOST_ACTIONS = 9
MOST_BYTES = 100_000


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    """A window whose addresses begin at the service."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(base_url=service.url)
        page.set_default_timeout(WAIT_MS)
        yield page
        browser.close()


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


def test_from_the_first_page_to_a_text_with_the_word(page: Page) -> None:
    visitor, word = Visitor(page), "clapped"
    page.goto("/")
    # Other tests' models may be there as well.
    section = page.locator("section", has=page.get_by_role("link", name=BUNDLED_MODEL, exact=True))
    section.get_by_label("Find a feature").fill(word)
    section.get_by_role("button", name="Find").click()
    visitor.actions += 3
    row = page.locator("tr", has_text=re.compile(rf"promotes\s+{word}")).first
    row.get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text(word)
    visitor.type("Prompt", "The old sailor")
    visitor.type("Strength of the feature, as a number", "1.5")
    visitor.click("button", "^Generate$")
    expect(page.locator("#written")).to_have_text("Done", timeout=3 * WAIT_MS)
    baseline, steered = (page.locator(at).inner_text() for at in ("#baseline", "#steered"))
    assert steered.count(word) > baseline.count(word)
    assert visitor.actions <= MOST_ACTIONS


def test_what_a_feature_page_links_to_is_there(service: Service) -> None:
    page = httpx.get(f"{service.url}{MODEL}/saes/{BUNDLED_SAES[0]}/features/266").text
    links = set(re.findall(r'href="(/[^"#?]*)', page))
    assert any("/neurons/2/" in link for link in links)
    for link in links:
        assert httpx.get(service.url + link).status_code == 200, link


@pytest.mark.parametrize("source", [*BUNDLED_SAES, BUNDLED_SPLIT[0]])
def test_pages_of_features_are_small(service: Service, source: str) -> None:
    with httpx.Client(base_url=service.url) as client:
        for index in range(0, 512, 16):
            answer = client.get(f"{MODEL}/saes/{source}/features/{index}")
            assert answer.status_code == 200
            assert len(answer.content) < MOST_BYTES
