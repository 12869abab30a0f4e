"""Features, as Neuronpedia's client and people's scripts read them, are those of `/v1`."""

import json
from pathlib import Path

import httpx
import numpy
import pytest
from fastapi.testclient import TestClient
from neuronpedia.np_feature import Feature
from neuronpedia.np_sae_feature import SAEFeature
from neuronpedia.requests.feature_request import FeatureRequest
from neuronpedia.requests.sae_feature_request import SAEFeatureRequest

from app.errors import Gone
from app.rows.source import Sources
from app.settings import Settings
from app.store import write
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY, client_of
from tests.api.server import ServerProcess
from tests.compat.neuronpedia.conftest import KEY, OTHER
from tests.store import builders

DEAD = 49


def v1(http: httpx.Client, sae: str, index: int) -> dict:
    """The same feature in `/v1`."""
    return http.get(f"/v1/models/tiny/saes/{sae}/features/{index}").json()


def examples(feature: dict) -> list[dict]:
    """All examples of a feature of `/v1`, strongest first, equal ones as they stand."""
    every = [one for band in feature["bands"] for one in band["examples"]]
    return sorted(every, key=lambda one: -one["max"])


def name(index: int, sae: str = "0-res", **more: object) -> dict:
    return {"modelId": "tiny", "layer": sae, "index": index, **more}


@pytest.mark.parametrize("index", [0, 7, 63])
def test_the_client_reads_a_feature(np: ServerProcess, index: int) -> None:
    ours = v1(np.client, "0-res", index)
    theirs = FeatureRequest().get("tiny", "0-res", index)
    assert (theirs.modelId, theirs.source, theirs.index) == ("tiny", "0-res", str(index))
    assert theirs.density == ours["density"]
    assert [one.text for one in theirs.explanations] == [ours["label"]]
    assert (theirs.explanations[0].source, theirs.explanations[0].index) == ("0-res", index)
    for got, stored in zip(theirs.activations, examples(ours), strict=True):
        assert (got.modelId, got.source, got.index) == ("tiny", "0-res", index)
        assert (got.tokens, got.values) == (stored["tokens"], stored["values"])
    fractions = [one.quantileFraction for one in theirs.activations]
    assert fractions.count(None) == 20 and fractions.count(0.2) == 25 == len(fractions) - 20
    assert [one.quantileMin for one in theirs.activations].count(-1) == 20
    assert Feature.get("tiny", "0-res", index) == theirs


def test_the_client_reads_the_row(np: ServerProcess) -> None:
    row = json.loads(SAEFeature.get("tiny", "0-res", "7").jsonData)
    assert SAEFeatureRequest().get("tiny", "0-res", "7").index == "7"
    ours = v1(np.client, "0-res", 7)
    assert float(numpy.float32(row["maxActApprox"])) == ours["max_activation"]
    assert row["frac_nonzero"] == ours["density"]
    assert row["freq_hist_data_bar_heights"] == ours["histogram"]["counts"]
    assert row["logits_hist_data_bar_heights"] == ours["logits"]["histogram"]["counts"]
    for end, of in (("pos", "top"), ("neg", "bottom")):
        assert row[f"{end}_str"] == [one["token"] for one in ours["logits"][of]]
        values = numpy.array(row[f"{end}_values"], numpy.float32)
        assert values.tolist() == [one["value"] for one in ours["logits"][of]]
    assert row["topkCosSimIndices"] == [one["index"] for one in ours["neighbors"]]
    assert row["hookName"] == "blocks.0.hook_resid_post"
    assert (row["model"]["id"], row["model"]["layers"], row["model"]["dimension"]) == ("tiny", 2, 8)
    assert (row["source"]["id"], row["source"]["setName"]) == ("0-res", "res")
    assert (row["sourceSet"]["name"], row["sourceSetName"]) == ("res", "res")
    assert (row["lists"], row["comments"], row["creator"]) == ([], [], None)
    assert row["correlated_features_indices"] == [] and row["vector"] == []


def test_every_row_is_complete_and_in_order(http: httpx.Client) -> None:
    for index in range(64):
        row = http.get(f"/api/feature/tiny/0-res/{index}").json()
        maxima = [one["maxValue"] for one in row["activations"]]
        assert maxima == sorted(maxima, reverse=True)
        assert len(maxima) == (0 if index == DEAD else 45)
        for one in row["activations"]:
            assert one["values"][one["maxValueTokenIndex"]] == one["maxValue"] == max(one["values"])
            assert one["minValue"] == min(one["values"])
            assert one["binMin"] <= one["maxValue"] <= one["binMax"]
    dead = http.get(f"/api/feature/tiny/0-res/{DEAD}").json()
    assert dead["maxActApprox"] == 0


def test_it_is_tagged_as_lookups_are(http: httpx.Client) -> None:
    first = http.get("/api/feature/tiny/0-res/5")
    same = {"If-None-Match": first.headers["etag"]}
    again = http.get("/api/feature/tiny/0-res/5", headers=same)
    assert (again.status_code, again.content) == (304, b"")
    assert http.get("/api/feature/tiny/0-res/6", headers=same).status_code == 200
    assert "x-api-key" in first.headers["vary"]
    assert http.head("/api/feature/tiny/0-res/5").headers["etag"] == first.headers["etag"]


def test_evidence_that_is_computed_anew_is_another_answer(shelf: Shelf, tmp_path: Path) -> None:
    url = shelf.reader.url.render_as_string(hide_password=False)
    database = None if shelf.is_sqlite else url
    builders.fill(shelf)
    with client_of(Settings(data_dir=tmp_path, database_url=database, live_url=NOBODY)) as client:
        before = client.get("/api/feature/tiny/0-res/5")
        builders.put_run(shelf, builders.corpus(), "run-2", seed=9)
        known = {"If-None-Match": before.headers["etag"]}
        after = client.get("/api/feature/tiny/0-res/5", headers=known)
        assert after.status_code == 200
        assert after.json()["maxActApprox"] != before.json()["maxActApprox"]
        write.delete_sae(shelf, "tiny", "0-res")
        assert client.get("/api/feature/tiny/0-res/5").status_code == 404


def test_a_slash_at_the_end_changes_nothing(http: httpx.Client) -> None:
    plain = http.get("/api/feature/tiny/0-res/5")
    slashed = http.get("/api/feature/tiny/0-res/5/")
    assert (slashed.status_code, slashed.content) == (200, plain.content)
    assert slashed.headers["etag"] == plain.headers["etag"]
    assert http.post("/api/features/", json=[]).json() == []


def test_its_lists_are_those_of_who_asks(http: httpx.Client) -> None:
    body = {"name": "some", "features": [name(11, description="this one")]}
    made = http.post("/api/list/new-with-features", json=body, headers=KEY).json()
    path = "/api/feature/tiny/0-res/11"
    before = http.get(path, headers=KEY)
    (within,) = before.json()["lists"]
    assert within["description"] == "this one" and within["list"]["name"] == "some"
    assert within["listId"] == within["list"]["id"] == made["id"]
    for headers in ({}, OTHER):
        assert http.get(path, headers=headers).json()["lists"] == []
    change = {"listId": made["id"], "name": "renamed"}
    http.post("/api/list/update", json=change, headers=KEY)
    known = {**KEY, "If-None-Match": before.headers["etag"]}
    after = http.get(path, headers=known)
    assert after.status_code == 200 and after.json()["lists"][0]["list"]["name"] == "renamed"
    http.post("/api/list/delete", json={"listId": made["id"]}, headers=KEY)
    assert http.get(path, headers=KEY).json()["lists"] == []


def test_several_come_in_the_order_asked(http: httpx.Client) -> None:
    wanted = [
        name(9, "1-res", maxActsToReturn=2),
        name(3, maxActsToReturn=0),
        name(9),
        name(3),
        name(64),
        name(5, "9-none"),
        {"modelId": "tiny", "source": "0-res", "index": "1", "maxActsToReturn": None},
    ]
    rows = http.post("/api/features", json=wanted).json()
    assert [(row["layer"], row["index"], len(row["activations"])) for row in rows] == [
        ("1-res", "9", 2), ("0-res", "3", 0), ("0-res", "9", 45), ("0-res", "3", 45), ("0-res", "1", 45),
    ]  # fmt: skip
    whole = http.get("/api/feature/tiny/1-res/9").json()
    assert rows[0]["activations"] == whole["activations"][:2]
    assert rows[0]["explanations"] == whole["explanations"]
    one = http.get("/api/feature/tiny/0-res/9").json()
    assert rows[2] == {key: one[key] for key in rows[2]}
    assert http.post("/api/features", json=[]).json() == []


def test_pages_hold_all_that_fire(http: httpx.Client) -> None:
    seen, offset = [], 0
    while True:
        body = {"modelId": "tiny", "layer": "0-res", "offset": offset}
        page = http.post("/api/features-offset", json=body).json()
        if not page:
            break
        seen += [int(row["index"]) for row in page]
        assert len(page) == 25 or len(seen) == 63
        offset += 25
    assert seen == [index for index in range(64) if index != DEAD]
    second = http.post("/api/features-offset", json={**body, "offset": "25"}).json()
    assert [int(row["index"]) for row in second] == seen[25:50]
    first = http.post("/api/features-offset", json={"modelId": "tiny", "layer": "0-res"}).json()
    assert [row["index"] for row in first] == [str(index) for index in range(25)]
    assert len(first[0]["activations"]) == 45


def test_activations_alone(http: httpx.Client) -> None:
    body = {"modelId": "tiny", "source": "0-res", "index": "7"}
    row = http.get("/api/feature/tiny/0-res/7").json()
    assert http.post("/api/activation/get", json=body).json() == row["activations"]
    missing = http.post("/api/activation/get", json={**body, "index": "64"})
    assert missing.status_code == 404 and "has features 0 to 63" in missing.json()["error"]


def test_answers_are_bounded(alone: TestClient) -> None:
    few = [name(index, maxActsToReturn=1) for index in range(8)]
    assert len(alone.post("/api/features", json=few).json()) == 8
    many = alone.post("/api/features", json=[name(0), name(1), name(2)])
    assert many.status_code == 413
    assert "more than 3,000 values (SAESCOPE_MAX_VALUES)" in many.json()["error"]
    too_many = alone.post("/api/features", json=[name(0)] * 101)
    assert too_many.status_code == 400 and "at most 100" in too_many.json()["error"]


def test_deleted_at_once_is_gone_at_once(settings: Settings, np: ServerProcess) -> None:
    shelf = open_shelf(settings.shelf_url)
    write.put_sae(shelf, builders.sae_record("3-gone", fingerprint="c" * 64))
    write.begin_run(shelf, "tiny", "3-gone", builders.corpus().record.id, {}, "gone")
    write.put_features(shelf, "gone", builders.batch(builders.corpus(), 0, 64))
    write.finish_runs(shelf, {"gone": {}})
    assert FeatureRequest().get("tiny", "3-gone", 1).index == "1"
    write.delete_sae(shelf, "tiny", "3-gone")
    shelf.close()
    with pytest.raises(Exception, match="Resource not found"):
        FeatureRequest().get("tiny", "3-gone", 1)


def test_another_sae_under_the_same_id_is_not_taken_for_it(shelf: Shelf) -> None:
    builders.fill(shelf)
    assert Sources(shelf)("run-1").names.sae == "0-res"
    write.delete_sae(shelf, "tiny", "0-res")
    write.put_sae(shelf, builders.sae_record(fingerprint="e" * 64))
    with pytest.raises(Gone):
        Sources(shelf)("run-1")
