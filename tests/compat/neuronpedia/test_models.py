"""Models and source sets."""

from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient
from neuronpedia.np_source_set import SourceSet
from neuronpedia.requests.model_request import ModelRequest
from neuronpedia.requests.source_set_request import SourceSetRequest
from requests.exceptions import HTTPError

from app.store import write
from app.store.engine import Shelf
from tests.api.server import ServerProcess
from tests.store import builders


def test_the_client_reads_a_source_set(np: ServerProcess) -> None:
    found = SourceSetRequest().get("tiny", "res")
    assert (found.name, found.model_id, found.description, found.url) == (
        "res", "tiny", "res", None,
    )  # fmt: skip
    assert [(one.id, one.model_id, one.set_name) for one in found.sources][:2] == [
        ("0-res", "tiny", "res"),
        ("1-res", "tiny", "res"),
    ]
    assert found.get_source_for_layer_number(1).id == "1-res"
    assert SourceSet.get("tiny", "res") == found
    with pytest.raises(HTTPError, match="not found: 404"):
        SourceSet.get("tiny", "none")


def test_a_model_with_its_sets(http: httpx.Client) -> None:
    model = http.post("/api/model/get", json={"id": "tiny"}).json()
    assert (model["id"], model["layers"], model["neuronsPerLayer"]) == ("tiny", 2, 32)
    assert (model["dimension"], model["inferenceEnabled"], model["instruct"]) == (8, True, False)
    sets = {one["name"]: one for one in model["sourceSets"]}
    assert list(sets) == sorted(sets)
    assert [(one["id"], one["hasDashboards"]) for one in sets["mlp"]["sources"]] == [
        ("1-mlp", False)
    ]
    assert sets["res"] == http.get("/api/source-set/tiny/res").json()
    listed = http.post("/api/model/list").json()
    assert listed == [{key: model[key] for key in model if key != "sourceSets"}]
    missing = http.post("/api/model/get", json={"id": "gpt5"})
    assert missing.status_code == 404 and "There is no model 'gpt5'" in missing.json()["message"]


def test_sources_are_in_the_order_of_layers(alone: TestClient) -> None:
    shelf: Shelf = alone.app.state.services.shelf  # type: ignore[attr-defined]
    for layer in (10, 2):
        sae = builders.sae_record(f"{layer}-res", fingerprint=f"{layer:064}")
        write.put_sae(shelf, replace(sae, layer=layer))
    found = alone.get("/api/source-set/tiny/res").json()
    assert [one["id"] for one in found["sources"]] == ["0-res", "1-res", "2-res", "10-res"]


def test_what_is_not_made_by_upload_says_what_to_do(np: ServerProcess) -> None:
    with pytest.raises(HTTPError, match="kind `load` registers a model"):
        ModelRequest().new("mine", 12)
    with pytest.raises(HTTPError, match="Sets are made of SAEs"):
        SourceSetRequest().new("mine", "tiny")
