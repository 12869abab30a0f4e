"""The steer page in a browser: what it shows is what /v1/steer answers."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from app.api import sse
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.openapi.place import CHATTY, Place
from tests.web.browser import WAIT_MS, overflow, tab_to
from tests.web.conftest import together
from tests.web.place import HOSTILE, LABELS, LONGEST, OTHER

pytestmark = together
SAE = BUNDLED_SAES[0]
ONE = [f"{SAE}:12:0.75:add"]


def address(**state: Any) -> str:
    """A short state, but for what is given."""
    state = {"model": BUNDLED_MODEL, "steer": ONE, "temperature": 0, "tokens": 8} | state
    return f"/steer?{urlencode(state, doseq=True)}"


def generate(page: Page) -> None:
    """Press the button, and wait until all is written."""
    page.get_by_role("button", name="Generate").click()
    wait(page)


def wait(page: Page) -> None:
    expect(page.locator("#generate")).to_have_text("Generate", timeout=3 * WAIT_MS)


def answers(page: Page) -> list[list[str]]:
    """Seed, baseline and steered of each row."""
    rows = page.locator("#answers tbody tr:has(td)").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def asked(place: Place, prompt: str, seed: int = 0, **body: Any) -> list[str]:
    """What /v1/steer answers, as such a row."""
    body = {"model": BUNDLED_MODEL, "max_new_tokens": 8, "seed": seed} | body
    body.setdefault("steering", [{"sae": SAE, "feature": 12, "strength": 0.75}])
    answer = place.server.client.post("/v1/steer", json={"prompt": prompt, **body})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return [str(seed), told["baseline"]["text"], told["steered"]["text"]]


def row(page: Page, place: int = 0) -> Locator:
    return page.locator("#chosen > li").nth(place)


def test_find_a_feature_steer_with_it_and_see_what_the_api_answers(
    page: Page, place: Place
) -> None:
    page.goto(address(steer=[]))
    page.get_by_label("Find a feature").press_sequentially("tok12")
    hit = page.locator("#hits li").first
    expect(hit).to_contain_text("tok12")
    expect(hit).to_contain_text("of tokens")
    hit.get_by_role("button").click()
    expect(page.locator("#hits")).to_be_empty()
    expect(page.get_by_label("Find a feature")).to_have_value("")
    sae, feature = (row(page).get_attribute(f"data-{name}") for name in ("sae", "feature"))
    assert sae and feature
    expect(row(page).get_by_role("link")).to_have_attribute(
        "href", f"/models/{BUNDLED_MODEL}/saes/{sae}/features/{feature}"
    )
    number = page.get_by_label(f"Strength of {sae} {feature}, as a number")
    number.fill("2.5")
    expect(page.get_by_label(f"Strength of {sae} {feature}", exact=True)).to_have_value("2.5")
    page.get_by_label("Prompt", exact=True).fill("Two cups of")
    generate(page)
    steering = [{"sae": sae, "feature": int(feature), "strength": 2.5}]
    assert answers(page) == [asked(place, "Two cups of", steering=steering)]
    _, baseline, steered = answers(page)[0]
    assert baseline and steered


def test_several_prompts_and_seeds_come_side_by_side(page: Page, place: Place) -> None:
    prompts = ["Once upon a time", "def add(x, y):\n    return"]
    page.goto(address(prompt=prompts, seeds=3, temperature=0.9))
    generate(page)
    expected = [
        asked(place, prompt, seed, temperature=0.9) for prompt in prompts for seed in range(3)
    ]
    assert answers(page) == expected
    assert len({steered for _, _, steered in expected}) > 2
    assert page.locator("#answers .prompted").all_text_contents() == prompts


def test_methods_and_several_features_are_sent_in_their_order(page: Page, place: Place) -> None:
    steer = [f"{SAE}:12:2:clamp", f"{SAE}:13:1:ablate", f"{HOSTILE}:3:0.5:orthogonal"]
    page.goto(address(steer=steer))
    expect(row(page, 1).get_by_role("spinbutton")).to_be_disabled()
    row(page, 1).get_by_role("combobox").select_option("cap")
    expect(row(page, 1).get_by_role("spinbutton")).to_be_enabled()
    generate(page)
    steering = [
        {"sae": SAE, "feature": 12, "strength": 2, "method": "clamp"},
        {"sae": SAE, "feature": 13, "strength": 1, "method": "cap"},
        {"sae": HOSTILE, "feature": 3, "strength": 0.5, "method": "orthogonal"},
    ]
    assert answers(page) == [asked(place, "Once upon a time", steering=steering)]


def test_text_appears_while_it_is_written(page: Page) -> None:
    page.goto(address(tokens=60))
    page.evaluate(
        """() => {
            window.lengths = [];
            new MutationObserver(() => {
                const cell = document.querySelector('#answers td:nth-child(3)');
                if (cell) lengths.push(cell.textContent.length);
            }).observe(document.getElementById('answers'), {childList: true, subtree: true});
        }"""
    )
    generate(page)
    lengths = page.evaluate("lengths")
    assert len(set(lengths)) > 10
    assert lengths == sorted(lengths)


def test_stop_ends_what_runs_and_what_waits(page: Page, place: Place) -> None:
    many = {"prompt": ["Once"] * 8, "seeds": 8, "temperature": 1, "tokens": LONGEST}
    page.goto(address(**many))
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#answers td").nth(1)).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    wait(page)
    expect(page.locator("#answered")).to_have_text("Stopped")
    stopped = [one for one in answers(page) if one[2].endswith("Stopped")]
    assert len(stopped) > 50
    place.live.wait_idle()
    before = answers(page)
    page.wait_for_timeout(300)
    assert answers(page) == before
    expect(page.locator("#answers [aria-busy]")).to_have_count(0)
    for _ in range(7):
        page.get_by_role("button", name="Remove this prompt").first.click()
    page.get_by_label("per prompt").fill("1")
    page.get_by_label("new tokens").fill("8")
    generate(page)
    assert answers(page) == [asked(place, "Once", temperature=1)]


def test_the_address_tells_the_state(page: Page) -> None:
    page.goto(address(steer=[]))
    page.get_by_label("Find a feature").fill("hostile script document")
    page.get_by_role("button", name=f"Add {HOSTILE} 0").click()
    page.get_by_label("Find a feature").fill("tok12")
    page.locator("#hits button").nth(1).click()
    row(page).get_by_role("slider").fill("-1.25")
    row(page, 1).get_by_role("combobox").select_option("ablate")
    page.get_by_label("Prompt", exact=True).fill("A & b = c+d #1\n  学 100%")
    page.get_by_role("button", name="Another prompt").click()
    page.get_by_label("Prompt", exact=True).nth(1).fill("Second")
    page.get_by_label("per prompt").fill("3")
    page.get_by_label("temperature").fill("0.5")
    page.get_by_label("new tokens").fill("9")
    page.get_by_label("strengths").fill("-1, 2.5")
    page.locator("#sweep select").select_option(index=1)
    expect(page).to_have_url(re.compile("strengths=-1,2.5.*ablate"))
    shown, url = state(page), page.url
    assert shown["strengths"] == ["-1.25", "1"]
    page.reload()
    assert state(page) == shown
    page.get_by_label("temperature").fill("0.5")
    page.wait_for_timeout(400)
    assert page.url == url
    page.get_by_role("button", name="Remove this prompt").nth(1).click()
    row(page).get_by_role("button", name="Remove").click()
    expect(page).not_to_have_url(re.compile("Second"))
    expect(page).not_to_have_url(re.compile(f"{HOSTILE}:0:"))


def state(page: Page) -> dict[str, Any]:
    """All that a person sees of it."""
    fields = page.locator("#prompts textarea, .numbers input, #sweep input, #sweep select").all()
    return {
        "features": [one.inner_text() for one in page.locator("#chosen p").all()],
        "strengths": [one.input_value() for one in page.locator("#chosen [type=number]").all()],
        "sliders": [one.input_value() for one in page.locator("#chosen [type=range]").all()],
        "methods": [one.input_value() for one in page.locator("#chosen select").all()],
        "disabled": page.locator("#chosen input:disabled").count(),
        "fields": [one.input_value() for one in fields],
    }


def test_what_cannot_be_asked_for_does_not_reach_the_address(page: Page) -> None:
    page.goto(address())
    before = page.url
    for label, wrong in (("temperature", "11"), ("new tokens", ""), ("strengths", "1, x")):
        field = page.get_by_label(label)
        right = field.input_value()
        field.fill(wrong)
        page.wait_for_timeout(400)
        assert page.url == before
        assert not field.evaluate("one => one.checkValidity()")
        field.fill(right)
        page.wait_for_timeout(400)
        assert field.evaluate("one => one.checkValidity()")
        before = page.url


def test_prompts_too_long_for_an_address_are_refused_by_the_form(page: Page) -> None:
    page.goto(address(prompt=["学" * 3_000] * 2))
    before, second = page.url, page.get_by_label("Prompt", exact=True).nth(1)
    second.fill("学" * 4_000)
    page.get_by_role("button", name="Generate").click()
    assert "too long" in second.evaluate("one => one.validationMessage")
    assert page.url == before and page.locator("#answers .empty").count() == 1
    second.fill("Once")
    assert not second.evaluate("one => one.validationMessage")
    expect(page).to_have_url(re.compile("Once"))


def test_the_link_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(address())
    page.get_by_label("temperature").fill("0.125")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "temperature=0.125" in copied and copied == page.url


def test_everything_by_keyboard(page: Page, place: Place) -> None:
    page.goto(address(steer=[]))
    tab_to(page, page.get_by_label("Find a feature"))
    page.keyboard.type("hostile")
    expect(page.locator("#hits li")).to_have_count(len(LABELS))
    page.keyboard.press("Escape")
    expect(page.locator("#hits")).to_be_empty()
    page.keyboard.type(" script document")
    first = page.get_by_role("button", name=f"Add {HOSTILE} 0")
    expect(first).to_be_visible()
    tab_to(page, first)
    page.keyboard.press("Enter")
    expect(row(page).get_by_role("spinbutton")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(row(page).get_by_role("slider")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(row(page).get_by_role("spinbutton")).to_have_value("1.2")
    tab_to(page, page.get_by_role("button", name="Generate"))
    page.keyboard.press("Enter")
    wait(page)
    steering = [{"sae": HOSTILE, "feature": 0, "strength": 1.2}]
    assert answers(page) == [asked(place, "Once upon a time", steering=steering)]
    expect(page.get_by_role("button", name="Generate")).to_be_focused()
    tab_to(page, page.get_by_role("button", name="Sweep"))
    page.goto(page.url)
    tab_to(page, row(page).get_by_role("button", name="Remove"))
    page.keyboard.press("Space")
    expect(page.locator("#chosen > li")).to_have_count(0)
    expect(page.get_by_label("Find a feature")).to_be_focused()


def test_focus_stays_near_what_was_removed(page: Page) -> None:
    page.goto(address(prompt=["One", "Two", "Three"]))
    for left in ("Two", "One"):
        page.get_by_role("button", name="Remove this prompt").last.click()
        expect(page.locator("#prompts li:last-child :focus")).to_have_count(1)
        expect(page.get_by_label("Prompt", exact=True).last).to_have_value(left)


def test_two_clicks_at_once_do_not_stop_it(page: Page, place: Place) -> None:
    page.goto(address())
    page.get_by_role("button", name="Generate").dblclick()
    wait(page)
    expect(page.locator("#answered")).to_have_text("Done")
    assert answers(page) == [asked(place, "Once upon a time")]


def test_answers_to_something_else_are_marked(page: Page) -> None:
    page.goto(address())
    generate(page)
    expect(page.locator("#answers.old")).to_have_count(0)
    page.get_by_label("Find a feature").fill("tok12")
    expect(page.locator("#answers.old")).to_have_count(0)
    row(page).get_by_role("spinbutton").fill("2")
    expect(page.locator("#answers.old")).to_have_count(1)
    generate(page)
    expect(page.locator("#answers.old")).to_have_count(0)


def test_without_a_feature_it_asks_for_one(page: Page) -> None:
    page.goto(address(steer=[]))
    expect(page.get_by_text("Find a feature and add it.")).to_be_visible()
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#answered")).to_have_text("Add a feature first.")
    expect(page.get_by_label("Find a feature")).to_be_focused()


@pytest.mark.parametrize("width", [320, 700, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    steer = [f"{HOSTILE}:{n}:-12345.678901:orthogonal" for n in range(len(LABELS))]
    page.goto(address(steer=[*steer, *ONE], prompt=["unbroken" * 60, "Once"], sweep=len(steer)))
    assert overflow(page) == 0
    page.get_by_label("Find a feature").fill("hostile")
    expect(page.locator("#hits li")).to_have_count(len(LABELS))
    assert overflow(page) == 0
    page.keyboard.press("Escape")
    generate(page)
    page.get_by_role("button", name="Sweep").click()
    expect(page.locator("#sweep button")).to_have_text("Sweep", timeout=3 * WAIT_MS)
    expect(page.locator("#grid meter")).to_have_count(2 * 8 * 3)
    assert overflow(page) == 0


def test_labels_are_text_whatever_they_hold(page: Page) -> None:
    page.goto(address(steer=[]))
    for n in range(len(LABELS)):
        page.get_by_label("Find a feature").fill("hostile")
        page.get_by_role("button", name=f"Add {HOSTILE} {n}").click()
    assert page.title() == "Steer · saescope"
    shown = [one.inner_text() for one in page.locator("#chosen p a").all()]
    assert shown[:4] == list(LABELS[:4])
    assert shown[4] == "hostile ‹202E›elddim eht ni snrut‹202C› ‹200B›␇↵␍⇥ end"
    expect(page.locator("#chosen img, #chosen script")).to_have_count(0)
    page.reload()
    assert [one.inner_text() for one in page.locator("#chosen p a").all()] == shown
    assert page.title() == "Steer · saescope"


def test_a_sweep_is_a_grid_of_what_the_api_answers(page: Page, place: Place) -> None:
    prompts = ["Once upon a time", "The old sailor"]
    page.goto(
        address(steer=[f"{HOSTILE}:3:1:add", *ONE], prompt=prompts, sweep=1, strengths="-1,0,2")
    )
    page.get_by_role("button", name="Sweep").click()
    expect(page.locator("#sweep button")).to_have_text("Sweep", timeout=3 * WAIT_MS)
    rows = page.locator("#grid tbody tr:has(td)").all()
    shown = [row.locator("th, td").all_inner_texts() for row in rows]
    path = f"/v1/models/{BUNDLED_MODEL}/saes/{SAE}/features/12"
    strongest = place.server.client.get(path).json()["max_activation"]
    body = {
        "model": BUNDLED_MODEL,
        "steering": [{"sae": SAE, "feature": 12}],
        "strengths": [-1, 0, 2],
        "max_new_tokens": 8,
    }
    expected = []
    for prompt in prompts:
        answer = place.server.client.post("/v1/steer/sweep", json={**body, "prompt": prompt})
        for one in answer.json()["rows"]:
            measures = (
                one["kl"],
                one["unsteered_perplexity"],
                one["features"][0]["after"] / strongest,
            )
            expected.append([f"{one['strength']:g}", one["text"], *map(_short, measures)])
    assert shown == expected
    bars = page.locator("#grid tbody").first.locator("td:nth-child(3) meter")
    values = bars.evaluate_all("bars => bars.map(one => [one.value, one.max])")
    assert max(value for value, _ in values) == pytest.approx(values[0][1])
    assert values[1][0] < 0.01 * values[0][1]


def _short(value: float) -> str:
    """Three digits that tell, as the page writes them."""
    if abs(value) < 0.001:
        return "0"
    digits = float(f"{value:.3g}")
    return f"{digits:,.0f}" if abs(digits) >= 100 else f"{digits:.10f}".rstrip("0").rstrip(".")


def test_a_refusal_is_told_at_its_row(page: Page, complaints: list[str]) -> None:
    page.goto(address(steer=[f"{SAE}:12:1e39:add"], prompt=["Once", "Two"]))
    generate(page)
    told = "body.steering.0.strength is 1e+39, which times the unit is more than 32-bit numbers"
    assert all(told in steered for _, _, steered in answers(page))
    expect(page.locator("#answers .error")).to_have_count(2)
    page.goto(address(steer=[f"{SAE}:12:1:ablate"]))
    page.get_by_role("button", name="Sweep").click()
    expect(page.locator("#grid .error")).to_contain_text("has no strength to vary")
    assert complaints and all("status of 422" in one for one in complaints)
    complaints.clear()


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (None, "The service cannot be reached."),
        (b"", "The answer broke off; try again."),
        (b": keep-alive\n\nevent: delta\ndata: {", "The answer broke off; try again."),
        (sse.frame("error", {"detail": "The live worker\u2028ended: `half`"}), "ended: `half`"),
    ],
)
def test_a_stream_that_ends_badly_is_told_behind_what_came(
    page: Page, complaints: list[str], stream: bytes | None, told: str
) -> None:
    began = sse.frame("delta", {"answer": "steered", "text": " began <b>", "tokens": []})

    def answer(route: Route) -> None:
        if stream is None:
            route.abort()
        else:
            route.fulfill(body=began + stream, content_type=sse.MEDIA_TYPE)

    page.route("**/v1/steer", answer)
    page.goto(address())
    generate(page)
    [(_, _, steered)] = answers(page)
    assert told in steered
    assert steered.startswith(" began <b>") == (stream is not None)
    complaints.clear()


def test_another_model_keeps_the_prompts(page: Page) -> None:
    page.goto(address(prompt=["Kept"]))
    page.get_by_label("Model").select_option(CHATTY)
    page.get_by_role("button", name="Change").click()
    expect(page).to_have_url(re.compile(f"model={CHATTY}.*prompt=Kept"))
    expect(page.locator("#chosen > li")).to_have_count(0)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Kept")
    page.get_by_label("Find a feature").fill("tok12")
    page.get_by_role("button", name=f"Add {OTHER} 12").click()
    generate(page)
    [(_, baseline, steered)] = answers(page)
    assert baseline and steered


def test_a_search_that_cannot_be_is_told_where_hits_would_be(
    page: Page, complaints: list[str]
) -> None:
    page.goto(address(steer=[]))
    page.get_by_label("Find a feature").fill("?!")
    expect(page.locator("#hits")).to_contain_text("no letters or digits")
    complaints.clear()
    page.get_by_label("Find a feature").fill("xylophone")
    expect(page.locator("#hits")).to_have_text("No feature has these words.")
    expect(page.locator("#found")).to_have_text("0 features found")
