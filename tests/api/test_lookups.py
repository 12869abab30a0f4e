"""Models, SAEs and features as they are served, against what was put on the shelf."""

import re
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from app.api.shapes import Feature, FeatureList, ModelDetail, ModelList, SaeDetail, SaeList
from app.store import lookup, read, write
from app.store.engine import Shelf
from tests.store import builders

FEATURES = "/v1/models/tiny/saes/0-res/features"


def checked(shape: type[BaseModel], answer: httpx.Response) -> Any:
    """The answer's JSON, which must be exactly `shape`: no field more, none less."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    parsed = shape.model_validate_json(answer.content, strict=True)
    assert parsed.model_dump(mode="json") == answer.json()
    return answer.json()


def test_model_list_is_openais_too(client: TestClient) -> None:
    body = checked(ModelList, client.get("/v1/models"))
    assert body["object"] == "list"
    assert body["data"] == body["items"]
    (model,) = body["items"]
    assert (model["id"], model["object"], model["source"]) == ("tiny", "model", "here")
    assert model["created_at"].endswith("Z")
    assert body["next_cursor"] is None


def test_model(client: TestClient) -> None:
    body = checked(ModelDetail, client.get("/v1/models/tiny"))
    assert body["n_layers"] == 2
    assert body["context_size"] == 128
    assert body["prepend_bos"] is True
    assert body["license"] is None
    assert body["hook_points"] == {"blocks.0.hook_resid_post": 8}
    assert "path" not in body


def test_sae(client: TestClient) -> None:
    listed = checked(SaeList, client.get("/v1/models/tiny/saes"))
    body = checked(SaeDetail, client.get("/v1/models/tiny/saes/0-res"))
    assert body.pop("concepts") == []
    assert listed == {"items": [body], "next_cursor": None}
    assert body["status"] == "ready"
    assert body["provenance"]["run_id"] == "run-1"
    assert body["evaluation"] == dict.fromkeys(
        [
            "l0", "explained_variance", "ce_loss_score", "kl_div_score", "dead_features",
            "measured_on", "density_histogram", "concept_recovery",
        ]
    )  # fmt: skip


def test_sae_evaluation(client: TestClient, shelf: Shelf) -> None:
    fingerprint = read.sae(shelf, "tiny", "0-res").fingerprint
    f1 = {"feature": 0.75, "neuron": 0.5, "random": 0.25, "token": 0.5}
    row = {
        "concept": "topic.sea", "contextual": True, "feature": 3, "sign": 1, "threshold": 0.5,
        "f1": 0.75, "neuron_f1": 0.5, "random_f1": 0.25, "token_f1": 0.5,
    }  # fmt: skip
    told = {
        "l0": 11.5,
        "measured_on": {"source": "bundled:storyworld", "tokens": 900},
        "density_histogram": {"edges": [0.1, 0.5, 1.0], "counts": [3, 1]},
        "concept_recovery": {"contextual": f1, "all": f1},
    }
    write.set_evaluation(shelf, "tiny", "0-res", fingerprint, told | {"concepts": [row]})
    body = checked(SaeDetail, client.get("/v1/models/tiny/saes/0-res"))
    assert body["evaluation"] == body["evaluation"] | told
    assert body["concepts"] == [row]
    (listed,) = checked(SaeList, client.get("/v1/models/tiny/saes"))["items"]
    assert listed["evaluation"] == body["evaluation"]
    assert "concepts" not in listed


@pytest.mark.parametrize("index", [0, 3, 31, 63])
def test_feature_shows_what_the_shelf_holds(client: TestClient, shelf: Shelf, index: int) -> None:
    body = checked(Feature, client.get(f"{FEATURES}/{index}"))
    stored = lookup.feature(shelf, "tiny", "0-res", index)
    display = read.vocabulary(shelf, "tiny").display

    assert (body["index"], body["label"]) == (index, stored.label)
    assert body["density"] == stored.density
    same_float32(body["max_activation"], stored.max_activation)
    same_float32(body["histogram"]["edges"], stored.histogram_edges)
    assert body["histogram"]["counts"] == list(stored.histogram_counts)
    for side, logits in (("top", stored.top_logits), ("bottom", stored.bottom_logits)):
        assert [pair["token"] for pair in body["logits"][side]] == [display[t] for t, _ in logits]
        same_float32([pair["value"] for pair in body["logits"][side]], [v for _, v in logits])
    assert [n["index"] for n in body["neighbors"]] == [i for i, _ in stored.neighbors]
    same_float32([n["cosine"] for n in body["neighbors"]], [c for _, c in stored.neighbors])
    assert [(n["layer"], n["index"]) for n in body["neurons"]] == [
        (layer, i) for layer, i, _ in stored.neurons
    ]
    assert [band["name"] for band in body["bands"]] == ["top", "q5", "q4", "q3", "q2", "q1"]
    shown = [example for band in body["bands"] for example in band["examples"]]
    assert len(shown) == len(stored.examples)
    for example, kept in zip(shown, stored.examples, strict=True):
        assert example["tokens"] == [display[token] for token in kept.token_ids]
        same_float32(example["values"], kept.values)
        assert example["max"] == example["values"][example["peak"]] == max(example["values"])
        assert (example["sequence"], example["offset"]) == (kept.sequence, kept.offset)
        assert example["text"] == "".join(example["tokens"])


def same_float32(shown: Any, kept: Any) -> None:
    """Equal as float32: the wire has as many digits as a float32 needs."""
    assert np.array_equal(np.asarray(shown, np.float32), np.asarray(kept, np.float32))


def test_dead_feature_is_served(client: TestClient, shelf: Shelf) -> None:
    builders.put_run(shelf, builders.corpus(), "run-2", step=64)
    body = checked(Feature, client.get(f"{FEATURES}/49"))
    assert body["max_activation"] == 0
    assert body["bands"] == []


def test_text_of_a_window_that_splits_a_character(client: TestClient, shelf: Shelf) -> None:
    tokens = builders.vocabulary()
    raw = [b"\xf0\x9f" if i % 2 else b"\x99\x82" for i in range(len(tokens.raw))]
    tokens.raw[:] = raw
    write.delete_model(shelf, "tiny")
    write.put_model(shelf, builders.model_record(fingerprint="e" * 64), tokens)
    write.put_sae(shelf, builders.sae_record())
    builders.put_run(shelf, builders.corpus(), "run-2")
    example = checked(Feature, client.get(f"{FEATURES}/3"))["bands"][0]["examples"][0]
    stored = lookup.feature(shelf, "tiny", "0-res", 3).examples[0]
    exact = b"".join(raw[token] for token in stored.token_ids)
    assert example["text"] == exact.decode(errors="replace")
    assert "\N{SLIGHTLY SMILING FACE}" in example["text"]


@pytest.mark.parametrize("sort", ["index", "density", "max_activation"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_add_up_to_the_list(client: TestClient, sort: str, order: str) -> None:
    seen, cursor = [], None
    while True:
        query = {"sort": sort, "order": order, "limit": 7} | ({"cursor": cursor} if cursor else {})
        body = checked(FeatureList, client.get(FEATURES, params=query))
        seen += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    keys = [(row[sort], row["index"]) for row in seen]
    assert keys == sorted(keys, reverse=order == "desc")
    assert sorted(row["index"] for row in seen) == list(range(64))


def test_bounds_and_words(client: TestClient) -> None:
    everything = client.get(FEATURES, params={"limit": 100}).json()["items"]
    bounds = {"density_min": 0.0005, "density_max": 0.01, "max_activation_min": 1.5}
    expected = [
        row["index"]
        for row in everything
        if 0.0005 <= row["density"] <= 0.01 and row["max_activation"] >= 1.5
    ]
    found = client.get(FEATURES, params={**bounds, "limit": 100}).json()["items"]
    assert [row["index"] for row in found] == expected
    assert 0 < len(expected) < 64
    words = checked(FeatureList, client.get(FEATURES, params={"q": "fires tok12"}))
    assert [row["index"] for row in words["items"]] == found_by(client, "fires", "tok12")


def found_by(client: TestClient, *prefixes: str) -> list[int]:
    """Indices of features that have, for every prefix, a word that begins so: in the label, the
    promoted tokens, or the tokens of the five highest peaks."""
    found = []
    for index in range(64):
        body = client.get(f"{FEATURES}/{index}").json()
        texts = [body["label"], *(pair["token"] for pair in body["logits"]["top"])]
        top = body["bands"][0]["examples"][:5] if body["bands"] else []
        texts += [example["tokens"][example["peak"]] for example in top]
        words = [word for text in texts for word in re.findall("[a-z0-9]+", text.lower())]
        if all(any(word.startswith(prefix) for word in words) for prefix in prefixes):
            found.append(index)
    assert 0 < len(found) < 64
    return found


def test_a_cursor_of_an_old_run_is_gone(client: TestClient, shelf: Shelf) -> None:
    cursor = client.get(FEATURES, params={"limit": 5}).json()["next_cursor"]
    builders.put_run(shelf, builders.corpus(), "run-2", seed=1)
    answer = client.get(FEATURES, params={"limit": 5, "cursor": cursor})
    assert answer.status_code == 410
    assert "start again" in answer.json()["detail"]


def test_models_come_in_pages(client: TestClient, shelf: Shelf) -> None:
    for name in ("alpha", "zeta"):
        record = builders.model_record(name, name * 8)
        write.put_model(shelf, record, builders.vocabulary(10))
    seen, cursor = [], None
    while True:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        body = checked(ModelList, client.get("/v1/models", params=query))
        seen += [model["id"] for model in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert seen == ["alpha", "tiny", "zeta"]


def test_delete_is_gone_at_once(client: TestClient) -> None:
    assert client.delete("/v1/models/tiny/saes/0-res").status_code == 204
    assert client.get(f"{FEATURES}/3").status_code == 404
    assert client.get("/v1/models/tiny/saes").json()["items"] == []
    answer = client.delete("/v1/models/tiny")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get("/v1/models/tiny").status_code == 404
    assert client.get("/v1/models").json()["data"] == []
