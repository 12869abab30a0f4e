"""Explanations found by words: as a plain loop over all features finds them."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient

from app.store import labels, words, write
from app.store.engine import Shelf
from tests.compat.neuronpedia.conftest import fill
from tests.store import builders

SOURCES = {"0-res": 64, "1-res": 40}


def search(http: httpx.Client, path: str = "search-all", **body: object) -> dict:
    """A page."""
    answer = http.post(f"/api/explanation/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(http: httpx.Client, path: str = "search-all", **body: object) -> Iterator[dict]:
    """All results, page by page."""
    offset = 0
    while True:
        page = search(http, path, **body, offset=offset)
        assert page["request"] == {**body, "offset": offset}
        assert page["resultsCount"] == len(page["results"])
        yield from page["results"]
        if not page["hasMore"]:
            assert "nextOffset" not in page
            return
        assert len(page["results"]) == 20
        offset = page["nextOffset"]


def by_hand(http: httpx.Client, query: str, sources: dict[str, int]) -> list[tuple]:
    """(SAE, index, words, words in the label) of all features that have any, best first."""
    found = []
    for place, (sae, width) in enumerate(sources.items()):
        for index in range(width):
            feature = http.get(f"/v1/models/tiny/saes/{sae}/features/{index}").json()
            label = words.cut(feature["label"])
            own = label + [w for one in feature["logits"]["top"] for w in words.cut(one["token"])]
            top = feature["bands"][0]["examples"][: words.PEAKS] if feature["bands"] else []
            own += [w for one in top for w in words.cut(one["tokens"][one["peak"]])]
            n, in_label = (
                sum(any(word.startswith(begin) for word in some) for begin in words.cut(query))
                for some in (own, label)
            )
            if n:
                found.append((-n, -in_label, place, index, sae))
    return [(sae, index, -n, -m) for n, m, _, index, sae in sorted(found)]


def shown(results: Iterator[dict]) -> list[tuple]:
    return [
        (one["layer"], int(one["index"]), one["wordsFound"], one["wordsFoundInLabel"])
        for one in results
    ]


@pytest.mark.parametrize("query", ["tok7", "tok1 tok22 promotes", "tok3 tok35", "FIRES on, tok6!"])
def test_all_are_found_in_order(http: httpx.Client, query: str) -> None:
    expected = by_hand(http, query, SOURCES)
    assert len(expected) > 3
    of_tiny = ("search-model", {"modelId": "tiny"})
    named = ("search", {"modelId": "tiny", "layers": ["0-res", "1-res"]})
    release = ("search-release", {"releaseName": "res"})
    for path, where in (("search-all", {}), of_tiny, named, release):
        if path == "search-all":
            assert shown(pages(http, query=query)) == expected
        else:
            assert shown(pages(http, path, query=query, **where)) == expected
    one = pages(http, "search", query=query, modelId="tiny", layers=["1-res"])
    assert shown(one) == by_hand(http, query, {"1-res": 40})


def test_rows_are_those_of_the_features(http: httpx.Client) -> None:
    for result in search(http, query="tok7 tok8")["results"]:
        feature = http.get(f"/api/feature/tiny/{result['layer']}/{result['index']}").json()
        (explanation,) = feature["explanations"]
        assert result["description"] == explanation["description"]
        assert result["id"] == explanation["id"]
        assert result["cosine_similarity"] is None
        assert result["neuron"]["activations"] == feature["activations"][:3]
        read = http.get(f"/api/explanation/{result['id']}").json()
        assert read["description"] == result["description"]
        assert read["neuron"]["activations"] == feature["activations"]
        assert read["model"]["id"] == "tiny" and read["votes"] == []


def test_nothing_is_found(http: httpx.Client) -> None:
    page = search(http, query="xylophone")
    assert page == {
        "request": {"query": "xylophone", "offset": 0},
        "results": [], "resultsCount": 0, "hasMore": False,
    }  # fmt: skip
    assert search(http, query="tok7", offset=100_000)["results"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("search-all", {"query": "ab"}, 400, "length of at least 3"),
        ("search-all", {"query": "x" * 501}, 400, "length of at most 500"),
        ("search-all", {"query": "!!!"}, 400, "no letters or digits"),
        ("search-all", {"query": " ".join(map(str, range(17)))}, 400, "at most 16"),
        ("search-all", {"query": "abc", "offset": -1}, 400, "at least 0"),
        ("search-all", {}, 400, "query"),
        ("search-model", {"query": "abc", "modelId": "gpt5"}, 404, "no model 'gpt5'"),
        ("search", {"query": "abc", "modelId": "tiny", "layers": []}, 400, "at least 1"),
        ("search", {"query": "abc", "modelId": "tiny", "layers": ["9-x"]}, 404, "no SAE '9-x'"),
        ("search", {"query": "abc", "modelId": "tiny", "layers": ["1-mlp"]}, 404, "no evidence"),
        ("search-release", {"query": "abc", "releaseName": "none"}, 404, "no release 'none'"),
    ],
)
def test_what_is_refused(
    http: httpx.Client, path: str, body: dict, status: int, sentence: str
) -> None:
    answer = http.post(f"/api/explanation/{path}", json=body)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize(
    "id", ["x", "tiny.0-res", "tiny.0-res.64", "tiny.9-res.1", "tiny.0-res.1:1", "a.b.9999999999"]
)
def test_unknown_explanations(http: httpx.Client, id: str) -> None:
    assert http.get(f"/api/explanation/{id}").status_code == 404


def test_names_with_dots_are_told_apart(alone: TestClient) -> None:
    shelf: Shelf = alone.app.state.services.shelf  # type: ignore[attr-defined]
    assert alone.get("/api/explanation/tiny.0-res.3").status_code == 200
    write.put_model(shelf, builders.model_record("tiny.0", "e" * 64), builders.vocabulary())
    sae = builders.sae_record("1.res", model_id="tiny.0", fingerprint="e" * 64)
    write.put_sae(shelf, sae)
    assert "no evidence" in alone.get("/api/explanation/tiny.0.1.res.3").json()["error"]
    write.put_sae(shelf, replace(sae, model_id="tiny", id="0.1.res"))
    both = alone.get("/api/explanation/tiny.0.1.res.3")
    assert both.status_code == 409 and "may be of several SAEs" in both.json()["error"]


def test_features_without_a_label_are_none(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {"seed": 1}, "bare")
    some = builders.batch(tokens, 0, 64)
    some.labels[3:] = [""] * 61
    write.put_features(shelf, "bare", some)
    write.finish_runs(shelf, {"bare": {}})
    hits, more = labels.search(shelf, labels.of_all(shelf), "tok", 0, 20)
    assert ([hit.index for hit in hits], more) == ([0, 1, 2], False)


def test_a_common_word_finds_the_first_of_each_sae(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MOST_HITS", 20)
    monkeypatch.setattr(labels, "FEWEST_HITS", 5)
    fill(shelf)
    among = labels.of_all(shelf)
    assert [(one.sae_id, one.model_id) for one in among] == [("0-res", "tiny"), ("1-res", "tiny")]
    hits, more = labels.search(shelf, among, "fires", 0, 100)
    assert [(hit.sae_id, hit.index) for hit in hits] == [
        (sae, index) for sae in SOURCES for index in range(10)
    ]
    assert not more
    # One that all words find, or a rare one, counts with all its words.
    (first, *_), _ = labels.search(shelf, among, "fires tok35", 0, 100)
    assert (first.index, first.n_words, first.n_in_label) == (35, 2, 2)
    hits, _ = labels.search(shelf, among, "promotes tok35 xylophone", 0, 100)
    assert (hits[0].index, hits[0].n_words, hits[0].n_in_label) == (35, 2, 2)
    hits, _ = labels.search(shelf, among, "fires promotes", 0, 100)
    assert [hit.n_words for hit in hits] == [2] * 20
    monkeypatch.setattr(labels, "MOST_HITS", 4)
    hits, _ = labels.search(shelf, among, "fires", 0, 100)
    assert len(hits) == 10


def test_what_has_all_of_several_common_words_is_found(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MOST_HITS", 5)
    monkeypatch.setattr(labels, "FEWEST_HITS", 5)
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {"seed": 1}, "named")
    some = builders.batch(tokens, 0, 64)
    some.labels[:] = ["alpha"] * 20 + ["beta"] * 20 + ["alpha beta"] + ["gamma"] * 23
    write.put_features(shelf, "named", some)
    write.finish_runs(shelf, {"named": {}})
    hits, _ = labels.search(shelf, labels.of_all(shelf), "alpha beta", 0, 20)
    assert [hit.index for hit in hits] == [40, *range(5), *range(20, 25)]
