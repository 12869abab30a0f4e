"""Each page as people see it: main paths, by mouse and by keyboard, narrow and dark."""

import json
import re

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text as sql

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.store.engine import autocommitting, connected
from app.store.progress import put_progress
from app.web.tokens import visible
from tests.openapi.place import CHATTY, TRAIN, Place
from tests.web.conftest import together
from tests.web.place import HOSTILE, LABELS, REASON, STUCK

pytestmark = together
SAE = BUNDLED_SAES[0]
HOME = f"/models/{BUNDLED_MODEL}/saes/{SAE}"
FEATURE = f"{HOME}/features/3"
NEURON = f"/models/{BUNDLED_MODEL}/neurons/2/5"
TEXT = "/text?text=It+was+dark+and+Mia+was+alone."
PAGES = ("/", f"/models/{BUNDLED_MODEL}", HOME, FEATURE, NEURON, TEXT, "/jobs",
         f"/models/{BUNDLED_MODEL}/find?q=a", f"/models/{CHATTY}")  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page.set_viewport_size({"width": 320, "height": 700})
    answer = page.goto(path)
    assert answer is not None and answer.status == 200
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 320
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 300) == (scheme == "dark")


@pytest.mark.parametrize("path", PAGES)
def test_one_heading_a_title_and_a_way_past_the_bar(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("h1")).to_have_count(1)
    expect(page).to_have_title(re.compile(r".+ · saescope"))
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def test_a_feature_page_shows_what_the_api_answers(page: Page, place: Place) -> None:
    told = place.server.client.get(f"/v1{FEATURE}").json()
    page.goto(FEATURE)
    expect(page.locator("h1")).to_have_text(told["label"].replace("`", ""))
    strips = page.locator(".strip")
    examples = [one for band in told["bands"] for one in band["examples"]]
    expect(strips).to_have_count(len(examples))
    for number in (0, len(examples) - 1):
        one, strip = examples[number], strips.nth(number)
        peak = strip.locator("summary .after > .peak")
        expect(peak).to_have_count(1)
        assert (peak.text_content() or "").startswith(visible(one["tokens"][one["peak"]]))
        values = [float(v) for v in strip.locator("summary mark i").all_text_contents()]
        fired = [value for value in one["values"] if value > 0]
        assert values == pytest.approx(fired, rel=0.01)
    assert page.locator(".histogram.logits rect").count() > 3
    links = page.locator(".relatives a").evaluate_all("all => all.map(a => a.pathname)")
    assert f"{HOME}/features/{told['neighbors'][0]['index']}" in links
    neurons = [neuron for neuron in told["neurons"] if neuron["layer"] == 2]
    # Of the others none is split, so they have no page.
    assert sum("/neurons/" in link for link in links) == len(neurons) < len(told["neurons"])


def test_a_value_is_shown_where_it_is_pointed_at(page: Page) -> None:
    page.goto(FEATURE)
    mark = page.locator(".strip summary mark.peak").first
    mark.hover()
    seen = mark.locator("i").evaluate(
        """value => {
            const { left, top, width, height } = value.getBoundingClientRect();
            return document.elementFromPoint(left + width / 2, top + height - 2) === value;
        }"""
    )
    assert seen


def test_an_example_unfolds_by_keyboard_and_shows_more(page: Page) -> None:
    page.goto(FEATURE)
    strip = page.locator(".strip").first
    strip.locator("summary").focus()
    with page.expect_response(lambda answer: "/context?" in answer.url) as waited:
        page.keyboard.press("Enter")
    assert waited.value.status == 200
    expect(strip.locator("p.tokens")).to_be_visible()
    expect(strip.locator("p.tokens .around")).to_have_count(2)
    page.keyboard.press("Enter")
    expect(strip.locator("p.tokens")).to_be_hidden()


def test_a_text_of_ones_own_is_the_apis_answer(page: Page, place: Place) -> None:
    text = "The old sailor <b>sang</b>."
    page.goto(FEATURE)
    page.get_by_label("Your text").fill(text)
    page.get_by_role("button", name="See where it fires").click()
    tried = page.locator("#tried")
    expect(tried.locator(".tokens")).to_contain_text("<b>sang</b>")
    body = {"model": BUNDLED_MODEL, "saes": [SAE], "texts": [text], "features": {SAE: [3]}}
    told = place.server.client.post("/v1/activations", json=body).json()["results"][0]
    largest = max(told["saes"][SAE]["features"]["3"][1:])
    shown = float(tried.locator(".told b").inner_text())
    assert shown == pytest.approx(largest, rel=0.01, abs=1e-9)


def test_what_is_refused_is_told_in_its_place(page: Page, complaints: list[str]) -> None:
    page.goto(FEATURE)
    page.get_by_label("Your text").fill("a " * 30_000)
    page.get_by_role("button", name="See where it fires").click()
    expect(page.locator("#tried .error")).to_contain_text("allowed: at most")
    complaints.clear()


def test_snippets_run(page: Page, place: Place) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(FEATURE)
    page.get_by_role("button", name="Copy").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    lookup, steer = copied.splitlines()
    assert place.server.client.get(lookup.split("'")[1]).status_code == 200
    url, _, body = steer.split("'")[1::2]
    assert place.server.client.post(url, json=json.loads(body)).status_code == 200


def test_what_cannot_be_searched_for_is_told_above_the_table(page: Page) -> None:
    page.goto(f"{HOME}?limit=5")
    page.get_by_label("Words").fill("?!")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Words").fill("")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".features tbody tr")).to_have_count(5)
    page.goto(f"/models/{BUNDLED_MODEL}/find?q=?!")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Words")).to_have_value("?!")


def test_rows_of_a_narrow_table_are_low(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    for path in (HOME, f"/models/{BUNDLED_MODEL}/find?q=the"):
        page.goto(path)
        heights = page.locator(".features tbody tr").evaluate_all(
            "all => all.map(row => row.offsetHeight)"
        )
        assert heights and max(heights) < 140


def test_the_table_is_searched_sorted_and_narrowed_down(page: Page, place: Place) -> None:
    rows = place.server.client.get(
        f"/v1{HOME}/features", params={"sort": "density", "order": "desc", "limit": 50}
    ).json()["items"]
    page.goto(HOME)
    page.get_by_role("link", name="Density", exact=True).click()
    shown = page.locator(".features tbody tr td:first-child")
    assert shown.all_inner_texts() == [str(row["index"]) for row in rows]
    expect(page.locator("th[aria-sort=descending]")).to_have_count(1)
    page.get_by_label("Density, 0 to 1, from").fill(str(rows[4]["density"]))
    page.get_by_role("button", name="Find").click()
    assert shown.all_inner_texts() == [str(row["index"]) for row in rows[:5]]
    page.goto(HOME)
    page.get_by_role("link", name="Next page").click()
    assert shown.first.inner_text() == "50"


def test_a_cell_of_the_picture_shows_its_features(page: Page) -> None:
    page.goto(HOME)
    cell = page.locator(".cloud a").first
    count = int((cell.locator("title").text_content() or "").split(" ")[0].replace(",", ""))
    cell.locator("rect").click()
    expect(page.locator(".features tbody tr")).to_have_count(min(count, 50))
    expect(page.locator(".cloud .chosen")).to_have_count(1)
    page.get_by_role("link", name="Show all").click()
    expect(page).to_have_url(re.compile(f"{SAE}$"))


def test_a_token_and_a_feature_of_a_text_are_followed(page: Page) -> None:
    page.goto(f"/text?model={BUNDLED_MODEL}")
    page.get_by_label("Text", exact=True).fill("It was dark and Mia was alone.")
    page.get_by_role("button", name="Read").click()
    expect(page.locator(".fired li").first).to_be_visible()
    page.locator(".choose a", has_text="dark").click()
    assert "token=" in page.url
    expect(page.locator("h2 code")).to_contain_text("dark")
    page.reload()
    expect(page.locator(".choose .chosen")).to_contain_text("dark")
    page.locator(".fired .who a").first.click()
    expect(page).to_have_url(re.compile("/features/"))


def test_a_token_is_one_of_the_text_that_was_read(page: Page) -> None:
    page.goto(f"{TEXT}&model={BUNDLED_MODEL}")
    page.get_by_label("Text", exact=True).fill("Hi")
    page.locator(".choose a", has_text="alone").click()
    expect(page.locator("h2 code")).to_contain_text("alone")
    expect(page.get_by_label("Text", exact=True)).to_have_value("It was dark and Mia was alone.")
    page.goto(f"{TEXT}&model={BUNDLED_MODEL}&token=99")
    expect(page.get_by_role("alert")).to_contain_text("the text has")
    expect(page.get_by_role("button", name="Read")).to_be_visible()


def test_a_neuron_is_shown_split(page: Page, place: Place) -> None:
    told = place.server.client.get(f"/v1{NEURON}").json()["split"]
    page.goto(NEURON)
    expect(page.locator(".band")).to_have_count(len(told["groups"]))
    expect(page.locator(".weights li")).to_have_count(len(told["features"]) + 3)
    page.locator(".weights a").first.click()
    expect(page).to_have_url(re.compile(f"/features/{told['features'][0]['index']}$"))


def test_a_text_is_read_as_it_was_typed(page: Page, place: Place) -> None:
    text = "\nIt was dark.\nShe hid."
    page.goto(f"/text?model={BUNDLED_MODEL}")
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Read").click()
    expect(page.locator(".choose")).to_be_visible()
    body = {"model": BUNDLED_MODEL, "saes": [SAE], "texts": [text], "top_k": 1}
    told = place.server.client.post("/v1/activations", json=body).json()["results"][0]["tokens"]
    assert page.locator(".choose a").count() == len(told)
    expect(page.get_by_label("Text", exact=True)).to_have_value(text)


def test_older_jobs_are_of_the_same_kind(page: Page, place: Place) -> None:
    page.goto("/jobs?kind=train&limit=1")
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("train")


def test_jobs_and_one_that_is_done(page: Page, place: Place) -> None:
    page.goto("/jobs")
    page.get_by_role("link", name=place.done).click()
    expect(page.locator(".state")).to_have_text("done")
    expect(page.locator("img.curve")).to_be_visible()
    assert page.locator("img.curve").evaluate("image => image.naturalWidth") > 0
    expect(page.locator("pre")).to_contain_text('"kind": "train"')


def test_a_job_is_followed_to_its_end(page: Page, place: Place) -> None:
    spec = {"kind": "precompute", "model": BUNDLED_MODEL, "saes": [SAE],
            "corpus": {"bundled": BUNDLED_MODEL, "documents": 4}}  # fmt: skip
    job = place.server.client.post("/v1/jobs", json=spec).json()["id"]
    page.goto(f"/jobs/{job}")
    expect(page.locator(".state")).to_have_text("queued")
    assert place.server.client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    expect(page.locator(".state")).to_have_text("cancelled")


def test_metrics_of_a_job_grow_into_lines(page: Page, place: Place) -> None:
    job = place.server.client.post("/v1/jobs", json=TRAIN | {"sae": "2-lines"}).json()["id"]
    page.goto(f"/jobs/{job}")
    expect(page.locator(".state")).to_have_text("queued")
    begin = sql("UPDATE workflow_status SET status = 'PENDING' WHERE workflow_uuid = :job")
    with connected(autocommitting(place.live.settings.jobs_url)) as connection:
        connection.execute(begin, {"job": job})
    points = page.locator('[data-metric="loss"] polyline')
    for step in (1, 2, 3):
        metrics = {"loss": 3.0 / step, "l0": 2.0}
        put_progress(place.live.shelf, job, "train", step / 10, 5.0, 240.0, metrics)
        expect(page.locator('[data-metric="loss"] b')).to_have_text(f"{3 / step:.4g}")
    expect(page.locator("#job")).to_contain_text("about 4 min left in this phase")
    before = (points.get_attribute("points") or "").split(" ")
    assert len(before) >= 3 and float(before[0].split(",")[1]) < float(before[-1].split(",")[1])
    page.reload()
    expect(page.locator('[data-metric="l0"] polyline')).to_have_count(1)
    assert len((points.get_attribute("points") or "").split(" ")) >= len(before)
    assert place.server.client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    expect(page.locator(".state")).to_have_text("cancelled")


@pytest.mark.parametrize("number", range(len(LABELS)))
def test_hostile_labels_are_text(page: Page, number: int) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    for path in (
        f"/models/{BUNDLED_MODEL}/saes/{HOSTILE}",
        f"/models/{BUNDLED_MODEL}/saes/{HOSTILE}/features/{number}",
        f"/models/{BUNDLED_MODEL}/find?q=hostile",
    ):
        page.goto(path)
        assert "owned" not in page.title()
        assert "\u202e" not in page.locator("body").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert (
            page.locator("main script:not([src]), main img[src=x], main [onmouseover]").count() == 0
        )


def test_why_one_cannot_be_steered_is_told(page: Page) -> None:
    page.goto(f"/models/{BUNDLED_MODEL}/saes/{STUCK}")
    expect(page.locator(".provenance")).to_contain_text(REASON)
