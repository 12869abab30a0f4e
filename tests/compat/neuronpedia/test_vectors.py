"""Vectors: through Neuronpedia's client, and as features."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from neuronpedia.np_vector import NPVector
from neuronpedia.requests.feature_request import FeatureRequest
from neuronpedia.requests.vector_request import VectorRequest
from requests.exceptions import HTTPError

from app.settings import Settings
from app.store import vectors, write
from app.store.engine import open_shelf
from tests.api.server import ServerProcess
from tests.compat.neuronpedia.conftest import KEY, OTHER
from tests.live.process import LiveProcess
from tests.live.world import World
from tests.store import builders

VALUES = [0.1, -2.5, 1e-300, 3.0000000000000004, 0, 7, -0.25, 12345.678]
NEW: dict[str, Any] = {
    "modelId": "tiny",
    "layerNumber": 1,
    "hookType": "hook_resid_post",
    "vector": VALUES,
    "vectorDefaultSteerStrength": 4.5,
    "vectorLabel": "a direction",
}


def test_all_that_the_client_does(np: ServerProcess) -> None:
    made = NPVector.new("joy", "tiny", 1, "hook_resid_pre", VALUES, 44)
    assert (made.label, made.model_id, made.hook_name) == ("joy", "tiny", "blocks.1.hook_resid_pre")
    assert made.source == "1-neuronpedia-resid-pre"
    assert made.index.isdigit() and len(made.index) in (8, 9)
    assert (made.values, made.default_steer_strength) == (VALUES, 44)
    assert NPVector.get("tiny", made.source, made.index) == made
    post = VectorRequest().new("anger", "tiny", 0, "hook_resid_post", VALUES)
    assert (post.source, post.default_steer_strength) == ("0-neuronpedia-resid-post", 10)
    assert NPVector.get_owned()[:2] == [post, made]
    assert VectorRequest(api_key="nobody's yet").get_owned() == []
    with pytest.raises(HTTPError, match="belongs to another key"):
        VectorRequest(api_key="another").delete(made)
    assert made.delete() == {"message": "Success"}
    with pytest.raises(HTTPError, match="not found"):
        NPVector.get("tiny", made.source, made.index)
    assert made not in NPVector.get_owned()


def test_it_is_a_feature(np: ServerProcess) -> None:
    http = np.client
    answer = http.post("/api/vector/new", json=NEW, headers=KEY).json()
    assert answer["message"] == "Success"
    named = answer["vector"]
    assert answer["url"] == f"{np.url}/api/feature/tiny/{named['source']}/{named['index']}"
    row = http.get(answer["url"]).json()
    assert (row["vector"], row["hasVector"], row["vectorLabel"]) == (VALUES, True, "a direction")
    assert (row["hookName"], row["vectorDefaultSteerStrength"]) == ("blocks.1.hook_resid_post", 4.5)
    assert (row["activations"], row["explanations"], row["maxActApprox"]) == ([], [], 0)
    assert row["model"]["id"] == "tiny" and row["sourceSetName"] == "neuronpedia-resid-post"
    assert row["source"]["id"] == named["source"]
    theirs = FeatureRequest().get("tiny", named["source"], int(named["index"]))
    assert (theirs.source, theirs.activations) == (named["source"], [])
    wanted = [
        {"modelId": "tiny", "layer": "0-res", "index": 1},
        {"modelId": "tiny", "layer": named["source"], "index": named["index"]},
    ]
    rows = http.post("/api/features", json=wanted).json()
    assert [(one["layer"], one["hasVector"]) for one in rows] == [
        ("0-res", False), (named["source"], True),
    ]  # fmt: skip
    body = {"modelId": "tiny", "source": named["source"], "index": named["index"]}
    assert http.post("/api/activation/get", json=body).json() == []
    new = {"name": "x", "features": wanted}
    listed = http.post("/api/list/new-with-features", json=new, headers=KEY).json()
    read = http.post("/api/list/get", json={"listId": listed["id"]}).json()
    assert read["neurons"][1]["neuron"]["vector"] == VALUES
    assert http.get(answer["url"], headers=KEY).json()["lists"][0]["listId"] == listed["id"]
    http.post("/api/vector/delete", json=body, headers=KEY)
    assert http.get(answer["url"]).status_code == 404
    wrong = {"listId": listed["id"], "featuresToAdd": [wanted[1]]}
    assert http.post("/api/list/add-features", json=wrong, headers=KEY).status_code == 404


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"modelId": "gpt5"}, 404, "no model 'gpt5'"),
    ({"layerNumber": 2}, 400, "layerNumber is 2; allowed: 0 to 1"),
    ({"layerNumber": -1}, 400, "at least 0"),
    ({"hookType": "hook_mlp_out"}, 400, "'hook_resid_pre' or 'hook_resid_post'"),
    ({"vector": VALUES[:7]}, 400, "vector has 7 values; allowed: the model's 8"),
    ({"vector": []}, 400, "at least 1"),
    ({"vector": [0.5] * 24_577}, 400, "at most 24576"),
    ({"vector": ["1"] * 8}, 400, "valid number"),
    ({"vector": [True] * 8}, 400, "valid number"),
    ({"vector": [[1]] * 8}, 400, "valid number"),
    ({"vectorDefaultSteerStrength": 300.5}, 400, "at most 300"),
    ({"vectorDefaultSteerStrength": -301}, 400, "at least -300"),
    ({"vectorDefaultSteerStrength": "-301"}, 400, "at least -300"),
    ({"vectorLabel": ""}, 400, "more than blanks"),
    ({"vectorLabel": "x" * 201}, 400, "at most 200"),
    ({"vectorLabel": "a\0b"}, 400, "a NUL cannot be kept"),
]


@pytest.mark.parametrize(("change", "status", "sentence"), REFUSED)
def test_what_is_refused(http: httpx.Client, change: dict, status: int, sentence: str) -> None:
    own = {"x-api-key": "refused"}
    answer = http.post("/api/vector/new", json=NEW | change, headers=own)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text
    assert http.post("/api/vector/list-owned", headers=own).json() == {"vectors": []}


@pytest.mark.parametrize("what", ["new", "delete", "list-owned"])
def test_what_belongs_to_somebody_needs_a_key(http: httpx.Client, what: str) -> None:
    answer = http.post(f"/api/vector/{what}", json=NEW)
    assert answer.status_code == 401 and "header `x-api-key`" in answer.json()["message"]


def test_an_owner_has_only_so_many(alone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "MOST_VECTORS", 2)
    for status in (200, 200, 409):
        assert alone.post("/api/vector/new", json=NEW, headers=KEY).status_code == status
    assert alone.post("/api/vector/new", json=NEW, headers=OTHER).status_code == 200


def test_a_number_that_is_taken_is_not_taken_twice(
    alone: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_NUMBERS", range(10_000_000, 10_000_003))
    made = [
        alone.post("/api/vector/new", json=NEW, headers=KEY).json()["vector"]["index"]
        for _ in range(3)
    ]
    assert sorted(made) == ["10000000", "10000001", "10000002"]


def test_it_outlives_its_model(http: httpx.Client, settings: Settings) -> None:
    shelf = open_shelf(settings.shelf_url)
    write.put_model(shelf, builders.model_record("short", "9" * 64), builders.vocabulary())
    body = NEW | {"modelId": "short"}
    named = http.post("/api/vector/new", json=body, headers=KEY).json()["vector"]
    write.delete_model(shelf, "short")
    shelf.close()
    row = http.get(f"/api/feature/short/{named['source']}/{named['index']}").json()
    assert (row["vector"], row["model"]) == (VALUES, None)


def test_what_a_feature_reads_without_a_live_worker(http: httpx.Client) -> None:
    body = {"modelId": "tiny", "source": "0-res", "index": "3"}
    away = http.post("/api/vector/get", json=body)
    assert away.status_code == 503 and "saescope worker live" in away.json()["error"]
    missing = http.post("/api/vector/get", json=body | {"source": "9-x"})
    assert missing.status_code == 404 and "no SAE '9-x'" in missing.json()["error"]


def test_what_a_feature_reads(
    tmp_path_factory: pytest.TempPathFactory,
    world: World,
    point: Callable[[ServerProcess], None],
) -> None:
    live = LiveProcess(tmp_path_factory.mktemp("live"), [world])
    server = ServerProcess(live.settings)
    try:
        live.start()
        point(server.start())
        dictionary = world.dictionary("1-post")
        found = NPVector.get(world.id, "1-post", "5")
        column = dictionary.reads(5)
        assert column is not None
        np.testing.assert_allclose(found.values, column.tolist(), rtol=1e-6)
        assert found.hook_name == dictionary.hook_name
        assert (found.label, found.default_steer_strength) == ("", 10)
        body = {"modelId": world.id, "source": "1-post", "index": "999999"}
        assert server.client.post("/api/vector/get", json=body).status_code in (400, 404)
    finally:
        server.stop()
        live.stop()
