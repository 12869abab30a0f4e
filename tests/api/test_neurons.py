"""Neurons as they are served, against what was put on the shelf."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.api.neuron_shapes import Neuron, NeuronList
from app.settings import Settings
from app.store import write
from app.store.engine import Shelf, open_shelf
from tests.api.test_lookups import checked
from tests.api.test_problems import problem_of
from tests.store import builders, split_builders
from tests.store.split_builders import split_of

NEURONS = "/v1/models/tiny/neurons"


@pytest.fixture
def shelf(settings: Settings) -> Iterator[Shelf]:
    """A shelf with neurons, split by the SAE `0-a`."""
    shelf = open_shelf(settings.shelf_url)
    split_builders.fill(shelf)
    yield shelf
    shelf.close()


def test_a_neuron_is_its_evidence_and_its_split(client: TestClient) -> None:
    body = checked(Neuron, client.get(f"{NEURONS}/0/5"))
    evidence = client.get("/v1/models/tiny/saes/0-mlp/features/5").json()
    assert evidence == {k: v for k, v in body.items() if k not in ("layer", "split")}
    split, stored = body["split"], split_of(5)
    assert (body["layer"], split["sae"]) == (0, "0-a")
    assert split["polysemanticity"] == stored.polysemanticity
    assert split["features"][1] == {
        "index": 61, "label": "fires on tok61, promotes tok61", "share": -0.1, "weight": -0.5,
    }  # fmt: skip
    parts = [*split["features"], split["others"]]
    total = sum(part["share"] for part in parts) + split["bias"] + split["rest"]
    assert total == pytest.approx(1)
    first, none = split["groups"]
    assert first["feature"] == split["features"][0] and none["feature"] is None
    shown = [dict(e, band=b["name"]) for b in body["bands"] for e in b["examples"]]
    assert first["examples"] == [
        shown[0] | {"contribution": 1.5}, shown[4] | {"contribution": 1.25},
    ]  # fmt: skip


def test_a_neuron_is_unchanged_until_either_run_changes(client: TestClient, shelf: Shelf) -> None:
    tag = client.get(f"{NEURONS}/0/5").headers["etag"]
    again = client.get(f"{NEURONS}/0/5", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    split_builders.begin(shelf, builders.corpus(), "0-a", "0-a.2")
    split_builders.put_split(shelf, "0-mlp.1", "0-a.2", seed=1)
    write.finish_runs(shelf, {"0-a.2": {}})
    changed = client.get(f"{NEURONS}/0/5", headers={"If-None-Match": tag})
    assert changed.json()["split"]["features"][0]["share"] == 1.5


def test_the_most_polysemantic_come_first(client: TestClient, shelf: Shelf) -> None:
    query = {"layer": 0, "sort": "polysemanticity", "order": "desc", "limit": 10}
    body = checked(NeuronList, client.get(NEURONS, params=query))
    assert (body["layer"], body["sae"], len(body["items"])) == (0, "0-a", 10)
    numbers = [row["polysemanticity"] for row in body["items"]]
    assert numbers == sorted(numbers, reverse=True) and numbers[0] == 2.9
    cursor = {**query, "cursor": body["next_cursor"]}
    assert client.get(NEURONS, params=cursor).json()["items"][0]["polysemanticity"] <= numbers[-1]
    problem_of(client.get(NEURONS, params=cursor | {"order": "asc"}), 400)
    split_builders.begin(shelf, builders.corpus(), "0-a", "0-a.2")
    split_builders.put_split(shelf, "0-mlp.1", "0-a.2")
    write.finish_runs(shelf, {"0-a.2": {}})
    assert "start again" in problem_of(client.get(NEURONS, params=cursor), 410)["detail"]


@pytest.mark.parametrize(("path", "status", "told"), [
    ("/0/64", 404, "There is no neuron 64 in layer 0 of model 'tiny'; they are 0 to 63."),
    ("/7/0", 404, "has no neurons in layer 7"),
    ("/0/5?sae=0-b", 404, "`saescope precompute tiny 0-mlp 0-b`"),
    ("/0/5?sae=0-res", 404, "does not split these neurons"),
    ("/0/x", 422, "index"),
    ("/0/5?sea=0-a", 422, "sea"),
    ("?sort=beauty", 422, "sort"),
    ("?limit=0", 422, "limit"),
])  # fmt: skip
def test_bad_input_is_one_sentence(client: TestClient, path: str, status: int, told: str) -> None:
    assert told in str(problem_of(client.get(f"{NEURONS}{path}"), status))
