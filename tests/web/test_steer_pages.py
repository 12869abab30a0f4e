"""What the server writes for steering: the page in the state of its query, hits of a search, sentences
about what is wrong."""

import html
from http.client import HTTPConnection
from urllib.parse import quote, urlencode, urlsplit

import pytest

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.web.steer_query import LONGEST, LONGEST_ADDRESS
from tests.openapi.place import CHATTY, Place
from tests.web.conftest import together
from tests.web.place import HOSTILE, LABELS, OTHER, REASON, STUCK

pytestmark = together
SAE = BUNDLED_SAES[0]
MODEL = {"model": BUNDLED_MODEL}
DEAD = 49
BAD = [
    ("steer=12", "query.steer.0: write SAE:FEATURE:STRENGTH:METHOD"),
    ("steer=a:1:1:add:x", "query.steer.0: write SAE:FEATURE:STRENGTH:METHOD"),
    ("steer=a:x", "query.steer.0.feature: input should be a valid integer, not 'x'"),
    ("steer=a:1&steer=a:-1", "query.steer.1.feature: input should be greater than or equal"),
    ("steer=a:99999999999", "query.steer.0.feature"),
    ("steer=a:1:nan", "query.steer.0.strength: input should be a finite number"),
    ("steer=a:1:1e999", "query.steer.0.strength: input should be a finite number"),
    ("steer=a:1:1:push", "allowed: 'add', 'clamp', 'ablate', 'orthogonal' or 'cap'"),
    ("steer=%00:1", "query.steer.0.sae"),
    ("&".join(["steer=a:1"] * 33), "query.steer has 33 features; allowed: at most 32"),
    ("&".join(["prompt=x"] * 9), "query.prompt: list should have at most 8"),
    (f"prompt={'x' * (LONGEST + 1)}", "query.prompt.0: string should have at most 4000"),
    ("seeds=9", "query.seeds: input should be less than or equal to 8"),
    ("seeds=two", "query.seeds: input should be a valid integer"),
    ("temperature=-1", "query.temperature"),
    ("temperature=inf", "query.temperature"),
    ("tokens=0", "query.tokens"),
    (
        "tokens=201",
        "query.tokens has 201 tokens; allowed: at most 200 (SAESCOPE_MAX_NEW_TOKENS)",
    ),
    ("strengths=", "query.strengths.0: input should be a valid number"),
    ("strengths=1,nan", "query.strengths.1: input should be a finite number"),
    (f"strengths={'1,' * 32}1", "query.strengths: value should have at most 32"),
    ("model=a/b", "query.model"),
    ("sweep=-1", "query.sweep"),
    ("prompts=x", "query.prompts: there is no such field; allowed: model, prompt, seeds"),
    ("prompt=%ff%fe&seeds=0", "query.seeds"),
]


def test_the_first_html_shows_the_state(place: Place) -> None:
    query = {
        **MODEL,
        "steer": [f"{SAE}:12:-0.35:clamp", f"{HOSTILE}:0"],
        "prompt": ["\nThe <old>\r\nsailor", "Two cups"],
        "seeds": 5,
        "temperature": 0,
        "tokens": 17,
        "sweep": 1,
        "strengths": "-1,0.125,2",
    }
    answer = place.server.client.get("/steer", params=query)
    assert answer.status_code == 200
    text = answer.text
    assert 'value="-0.35"' in text and "<option selected>clamp</option>" in text
    assert f"<option selected>{HOSTILE} 0</option>" in text
    assert "\n\nThe &lt;old&gt;\r\nsailor</textarea>" in text and "Two cups</textarea>" in text
    for field in (
        'seeds" required min="1" max="8" value="5"',
        'tokens" required min="1" max="200"',
    ):
        assert field in text
    assert 'value="0"' in text and 'value="17"' in text and 'value="-1, 0.125, 2"' in text
    assert html.escape(LABELS[0]).replace("&#x27;", "&#39;") in text
    assert 'role="alert"' not in text


def test_without_a_query_there_is_something_to_begin_with(place: Place) -> None:
    text = place.server.client.get("/steer").text
    assert f'data-model="{CHATTY}"' in text
    assert f"<option>{BUNDLED_MODEL}</option>" in text
    assert "Once upon a time</textarea>" in text


@pytest.mark.parametrize(("query", "sentence"), BAD, ids=range(len(BAD)))
def test_a_bad_query_is_told_on_the_page(place: Place, query: str, sentence: str) -> None:
    answer = place.server.client.get(f"/steer?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    told = html.unescape(answer.text).split('role="alert">')[1].split("</p>")[0]
    assert sentence in told
    assert 'id="steer"' in answer.text


def test_what_is_not_there_is_told_and_the_rest_is_shown(place: Place) -> None:
    gone = [f"{SAE}:999999", "nothing:1", f"{STUCK}:3", f"{SAE}:{DEAD}", "nothing:2"]
    query = {**MODEL, "steer": [*gone, f"{SAE}:12:2"], "prompt": "kept"}
    answer = place.server.client.get("/steer", params=query)
    assert answer.status_code == 404
    text = answer.text
    told = [part.split("</p>")[0] for part in text.split('role="alert">')[1:]]
    assert [html.unescape(one)[:50] for one in told] == [
        "There is no feature 999999: SAE '2-res-topk' has f",
        "Model 'storyworld' has no SAE 'nothing'; GET /v1/m",
        f"{STUCK} cannot be steered with: {REASON}."[:50],
        f"Feature {DEAD} of {SAE} never fired on the corpus, s"[:50],
    ]
    assert text.count("<li data-sae=") == 1 and 'data-feature="12"' in text
    assert "kept</textarea>" in text


def test_an_unknown_model_is_told(place: Place) -> None:
    answer = place.server.client.get("/steer?model=nope&steer=a:1")
    assert answer.status_code == 404
    assert "There is no model nope that can be steered here." in answer.text
    assert f'data-model="{CHATTY}"' in answer.text


def test_the_longest_state_is_an_address_that_the_server_takes(place: Place) -> None:
    query = {**MODEL, "steer": [f"{SAE}:12:0.30000000000000004:orthogonal"] * 32}
    first = ["学" * LONGEST, ""]
    left = LONGEST_ADDRESS - len(urlencode({**query, "prompt": first}, doseq=True))
    query["prompt"] = [first[0], "学" * (left // len(quote("学")))]
    written = urlencode(query, doseq=True)
    assert LONGEST_ADDRESS - 9 < len(written) <= LONGEST_ADDRESS
    connection = HTTPConnection(urlsplit(place.server.url).netloc, timeout=60)
    connection.request("GET", f"/steer?{written}")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read().decode().count("学" * LONGEST) == 1


def test_words_find_features_of_all_saes_that_can_be_steered(place: Place) -> None:
    found = place.server.client.get("/steer/find", params={**MODEL, "q": "tok12"})
    assert found.status_code == 200
    assert "default-src 'none'" in found.headers["content-security-policy"]
    hits = found.text.split('data-add aria-label="Add ')[1:]
    assert len(hits) == 8
    names = {hit.split('"')[0] for hit in hits}
    assert len(names) == 8
    assert all(STUCK not in name and OTHER not in name for name in names)
    assert len({name.split()[0] for name in names}) > 1
    for hit in hits:
        assert "tok12" in hit


def test_equal_hits_are_ranked_by_rarity_and_dead_features_are_left_out(place: Place) -> None:
    shares = []
    for name in _hits(place, "tok12"):
        sae, index = name.split()
        path = f"/v1/models/{BUNDLED_MODEL}/saes/{sae}/features/{index}"
        feature = place.server.client.get(path).json()
        shares.append(feature["density"])
        assert feature["max_activation"] > 0
    assert shares == sorted(shares)
    dead = {f"{sae} {DEAD}" for sae in (*BUNDLED_SAES, HOSTILE)}
    assert not dead & set(_hits(place, f"tok{DEAD}"))


def _hits(place: Place, words: str) -> list[str]:
    found = place.server.client.get("/steer/find", params={**MODEL, "q": words}).text
    return [hit.split('"')[0] for hit in found.split('data-add aria-label="Add ')[1:]]


def test_more_words_of_the_query_rank_first(place: Place) -> None:
    assert _hits(place, "hostile script document")[0] == f"{HOSTILE} 0"


def test_no_hits_and_no_words(place: Place) -> None:
    client = place.server.client
    assert (
        "No feature has these words."
        in client.get("/steer/find", params={**MODEL, "q": "xylophone"}).text
    )
    empty = client.get("/steer/find", params={**MODEL, "q": " "})
    assert empty.status_code == 200
    assert "<li>" not in empty.text and "No feature" not in empty.text


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ({**MODEL, "q": "?!"}, 422, "no letters or digits"),
        ({**MODEL, "q": " ".join(map(str, range(17)))}, 422, "17 different words"),
        ({**MODEL, "q": "x" * 201}, 422, "at most 200"),
        (MODEL, 422, "query.q: a value is required"),
        ({"q": "x"}, 422, "query.model: a value is required"),
        ({"model": "nope", "q": "x"}, 404, "no model nope"),
        ({"model": "../etc", "q": "x"}, 422, "query.model"),
    ],
)
def test_a_bad_search_is_a_problem(
    place: Place, query: dict[str, str], status: int, sentence: str
) -> None:
    answer = place.server.client.get("/steer/find", params=query)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_a_label_is_escaped_wherever_it_stands(place: Place) -> None:
    found = place.server.client.get("/steer/find", params={**MODEL, "q": "hostile"}).text
    page = place.server.client.get(
        "/steer", params={**MODEL, "steer": [f"{HOSTILE}:{n}" for n in range(len(LABELS))]}
    ).text
    for text in (found, page):
        assert "<script>document" not in text and "<img src=x" not in text
        assert "</template></script></ul>" not in text
        assert "\u202e" not in text and "\u0007" not in text and "\u200b" not in text


def test_a_feature_page_has_a_panel_or_says_why_not(place: Place) -> None:
    client, saes = place.server.client, f"/models/{BUNDLED_MODEL}/saes"
    text = client.get(f"{saes}/{SAE}/features/12").text
    assert 'id="panel"' in text and "panel.js" in text
    assert f'href="/steer?model={BUNDLED_MODEL}&amp;steer={SAE}:12:1:add"' in text
    stuck = client.get(f"{saes}/{STUCK}/features/12").text
    assert f"{STUCK} cannot be steered with: {html.escape(REASON)}." in stuck
    dead = client.get(f"{saes}/{SAE}/features/{DEAD}").text
    assert f"Feature {DEAD} of {SAE} never fired on the corpus" in dead
    embedded = client.get(f"{saes}/{SAE}/features/12?embed=true").text
    for without in (stuck, dead, embedded):
        assert 'id="panel"' not in without and "panel.js" not in without
