"""Steering on a feature's page."""

from playwright.sync_api import Page, expect

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.openapi.place import Place
from tests.web.browser import WAIT_MS, overflow, tab_to
from tests.web.conftest import together

pytestmark = together
SAE = BUNDLED_SAES[0]
FEATURE = f"/models/{BUNDLED_MODEL}/saes/{SAE}/features/12"


def test_baseline_beside_steered_and_more_on_the_steer_page(page: Page, place: Place) -> None:
    page.goto(FEATURE)
    page.get_by_label("Prompt").fill("Two cups: of")
    page.get_by_label("Strength of the feature", exact=True).fill("-2.15")
    expect(page.get_by_label("Strength of the feature, as a number")).to_have_value("-2.15")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#panel button")).to_have_text("Generate", timeout=3 * WAIT_MS)
    body = {
        "model": BUNDLED_MODEL,
        "prompt": "Two cups: of",
        "steering": [{"sae": SAE, "feature": 12, "strength": -2.15}],
        "max_new_tokens": 40,
        "temperature": 0.7,
    }
    answer = place.server.client.post("/v1/steer", json=body).json()
    for name in ("baseline", "steered"):
        assert page.locator(f"#{name}").text_content() == answer[name]["text"]
    page.get_by_role("link", name="More on the steer page").click()
    expect(page.locator("#chosen [type=number]")).to_have_value("-2.15")
    expect(page.locator("#chosen li")).to_have_attribute("data-feature", "12")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Two cups: of")


def test_stop(page: Page, place: Place) -> None:
    page.goto(FEATURE)
    page.evaluate("document.getElementById('panel').dataset.tokens = 200")
    tab_to(page, page.get_by_role("button", name="Generate"))
    page.keyboard.press("Enter")
    expect(page.locator("#steered")).not_to_be_empty()
    page.keyboard.press("Enter")
    expect(page.locator("#panel button")).to_have_text("Generate")
    expect(page.locator("#steered .told")).to_have_text("Stopped")
    place.live.wait_idle()


def test_nothing_is_wider_than_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto(FEATURE)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#panel button")).to_have_text("Generate", timeout=3 * WAIT_MS)
    assert overflow(page) == 0
