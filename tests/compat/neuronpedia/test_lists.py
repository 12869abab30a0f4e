"""Lists of features: through Neuronpedia's client, and what it has no method for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from neuronpedia.np_list import NPList, NPListItem
from neuronpedia.requests.base_request import NPUnauthorizedError
from neuronpedia.requests.list_request import ListRequest
from requests.exceptions import HTTPError

from app.settings import Settings
from app.store import lists, write
from app.store.engine import open_shelf
from tests.api.server import ServerProcess
from tests.compat.neuronpedia.conftest import KEY, OTHER
from tests.store import builders


def feature(index: object, sae: str = "0-res", **more: object) -> dict[str, Any]:
    return {"modelId": "tiny", "layer": sae, "index": index, **more}


def ask(http: httpx.Client, what: str, headers: dict[str, str] = KEY, **body: object) -> Any:
    """The answer to a request that must succeed."""
    answer = http.post(f"/api/list/{what}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def made(http: httpx.Client, *indices: int) -> str:
    """The id of a list with features."""
    features = [feature(index) for index in indices]
    return ask(http, "new-with-features", name="made", features=features)["id"]


def indices(http: httpx.Client, list_id: str) -> list[str]:
    return [one["index"] for one in ask(http, "get", {}, listId=list_id)["neurons"]]


def test_all_that_the_client_does(np: ServerProcess) -> None:
    empty = NPList.new("joy", "what laughs")
    assert (empty.name, empty.description, empty.items) == ("joy", "what laughs", [])
    items = [NPListItem("tiny", "0-res", "7", "first"), NPListItem("tiny", "1-res", "3")]
    grown = empty.add_items(items)
    assert [(one.source, one.index) for one in grown.items] == [("0-res", "7"), ("1-res", "3")]
    read = NPList.get(empty.id)
    assert (read.id, read.name, read.description) == (empty.id, "joy", "what laughs")
    named = [(one.model_id, one.source, one.index) for one in read.items]
    assert named == [("tiny", "0-res", "7"), ("tiny", "1-res", "3")]
    second = ListRequest().new("anger")
    owned = [one.id for one in ListRequest().get_owned()]
    assert owned[:2] == [second.id, empty.id] and NPList.get_owned()[0].name == "anger"
    assert [one.id for one in ListRequest(api_key="nobody's yet").get_owned()] == []
    with pytest.raises(HTTPError, match="belongs to another key"):
        ListRequest(api_key="another").add_items(second, items)
    with pytest.raises(HTTPError, match="not found"):
        ListRequest().get("0" * 30)


def test_a_list_shows_its_features(http: httpx.Client) -> None:
    list_id = made(http, 7, 49)
    found = ask(http, "get", {}, listId=list_id)
    whole = http.get("/api/feature/tiny/0-res/7").json()
    alive, dead = found["neurons"]
    assert alive["neuron"]["activations"] == whole["activations"][:3]
    assert alive["neuron"]["explanations"] == whole["explanations"]
    assert dead["neuron"]["activations"] == []
    assert (alive["listId"], alive["description"]) == (list_id, "")
    assert found["activations"] == [] and found["user"]["name"] == found["userId"]
    assert "mine" not in str(found) and len(found["userId"]) == 16


def test_changes(http: httpx.Client) -> None:
    list_id = made(http, 1, 2, 3)
    changed = ask(http, "update", listId=list_id, name=" new ", defaultTestText="A test.")
    assert (changed["name"], changed["description"]) == ("new", "")
    assert changed["defaultTestText"] == "A test."
    edited = ask(http, "edit-feature", listId=list_id, **feature("2", description="two"))
    assert (edited["index"], edited["description"]) == ("2", "two")
    removed = ask(http, "remove", listId=list_id, **feature("1"))
    assert removed["index"] == "1"
    assert indices(http, list_id) == ["2", "3"]
    found = ask(http, "get", {}, listId=list_id)
    assert [one["description"] for one in found["neurons"]] == ["two", ""]
    assert found["defaultTestText"] == "A test." and found["updatedAt"] > found["createdAt"]
    assert ask(http, "delete", listId=list_id) is True
    assert http.post("/api/list/get", json={"listId": list_id}).status_code == 404


def test_what_is_there_stays_where_it_is(http: httpx.Client) -> None:
    list_id = made(http, 1, 2)
    some = [feature(3), feature(1, description="one"), feature(3, description="three")]
    added = ask(http, "add-features", listId=list_id, featuresToAdd=some)
    assert [(one["index"], one["description"]) for one in added] == [("3", "three"), ("1", "one")]
    again = ask(http, "add-features", listId=list_id, featuresToAdd=[feature(1)])
    assert [one["description"] for one in again] == ["one"]
    assert indices(http, list_id) == ["1", "2", "3"]
    assert ask(http, "add-features", listId=list_id, featuresToAdd=[]) == []


def test_adds_that_come_at_once_lose_nothing(http: httpx.Client, server: ServerProcess) -> None:
    list_id = made(http)
    groups = [[feature(n) for n in range(first, first + 8)] for first in range(0, 64, 8)]

    def add(group: list[dict[str, Any]]) -> None:
        with httpx.Client(base_url=server.url, trust_env=False) as one:
            for item in group:
                ask(one, "add-features", listId=list_id, featuresToAdd=[item])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, groups))
    assert sorted(map(int, indices(http, list_id))) == list(range(64))


@pytest.mark.parametrize(
    "what", ["new", "new-with-features", "add-features", "list", "update", "edit-feature",
             "remove", "delete"],
)  # fmt: skip
def test_what_belongs_to_somebody_needs_a_key(http: httpx.Client, what: str) -> None:
    answer = http.post(f"/api/list/{what}", json={})
    assert answer.status_code == 401
    assert "header `x-api-key`" in answer.json()["error"]
    assert http.post(f"/api/list/{what}", headers={"x-api-key": ""}).status_code == 401


def test_the_client_knows_a_missing_key(
    http: httpx.Client, np: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ListRequest, "_get_api_key", staticmethod(lambda _: ""))
    with pytest.raises(NPUnauthorizedError):
        ListRequest().new("x")


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("add-features", {"featuresToAdd": [feature(1)]}),
    ("update", {"name": "x"}),
    ("edit-feature", feature(1, description="x")),
    ("remove", feature(1)),
    ("delete", {}),
]


@pytest.mark.parametrize(("what", "body"), CHANGES)
def test_anothers_list_stays_as_it_is(http: httpx.Client, what: str, body: dict) -> None:
    list_id = made(http, 1)
    before = ask(http, "get", {}, listId=list_id)
    answer = http.post(f"/api/list/{what}", json={"listId": list_id, **body}, headers=OTHER)
    assert answer.status_code == 403 and "belongs to another key" in answer.json()["error"]
    assert ask(http, "get", {}, listId=list_id) == before
    gone = http.post(f"/api/list/{what}", json={"listId": "none", **body}, headers=KEY)
    assert gone.status_code == 404 and "no list 'none'" in gone.json()["error"]


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("new", {}, 400, "name"),
    ("new", {"name": " \n"}, 400, "more than blanks"),
    ("new", {"name": "x" * 201}, 400, "at most 200"),
    ("new", {"name": "a\0b"}, 400, "a NUL cannot be kept"),
    ("new", {"name": "x", "description": "d" * 2001}, 400, "at most 2000"),
    ("new", {"name": "x", "testText": "t" * 501}, 400, "at most 500"),
    ("new", {"name": "x", "testText": ""}, 400, "at least 1"),
    ("new-with-features", {"name": "x", "features": [feature(64)]}, 404, "no feature 64"),
    ("new-with-features", {"name": "x", "features": [feature(1, "9-x")]}, 404, "no SAE '9-x'"),
    ("new-with-features", {"name": "x", "features": [feature(1)] * 301}, 400, "at most 300"),
    ("add-features", {"listId": "x", "featuresToAdd": [feature(1)] * 101}, 400, "at most 100"),
    ("add-features", {"listId": "x", "featuresToAdd": [feature(True)]}, 400, "give a number"),
    ("add-features", {"listId": "x", "featuresToAdd": [feature("1x")]}, 400, "its digits"),
    ("add-features", {"listId": "x", "featuresToAdd": [feature(2**31)]}, 400, "at most"),
    ("get", {"listId": "a\0b"}, 400, "text that matches"),
    ("get", {"listId": ""}, 400, "length of at least 1"),
]


@pytest.mark.parametrize(("what", "body", "status", "sentence"), REFUSED)
def test_what_is_refused(
    http: httpx.Client, what: str, body: dict, status: int, sentence: str
) -> None:
    before = len(ask(http, "list"))
    answer = http.post(f"/api/list/{what}", json=body, headers=KEY)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text
    assert len(ask(http, "list")) == before


def test_a_list_is_not_filled_halfway(http: httpx.Client) -> None:
    list_id = made(http, 1)
    some = [feature(2), feature(64)]
    body = {"listId": list_id, "featuresToAdd": some}
    assert http.post("/api/list/add-features", json=body, headers=KEY).status_code == 404
    assert indices(http, list_id) == ["1"]
    missing = feature(5, description="x")
    answer = http.post("/api/list/edit-feature", json={"listId": list_id, **missing}, headers=KEY)
    assert answer.status_code == 404 and "is not in the list" in answer.json()["error"]


def test_bounds(alone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST_ITEMS", 3)
    monkeypatch.setattr(lists, "MOST_LISTS", 2)
    list_id = made(alone, 1, 2)  # type: ignore[arg-type]
    body = {"listId": list_id, "featuresToAdd": [feature(2), feature(3), feature(4)]}
    full = alone.post("/api/list/add-features", json=body, headers=KEY)
    assert full.status_code == 409 and "at most 3 features" in full.json()["error"]
    assert indices(alone, list_id) == ["1", "2"]  # type: ignore[arg-type]
    assert alone.post("/api/list/new", json={"name": "2"}, headers=KEY).status_code == 200
    more = alone.post("/api/list/new", json={"name": "3"}, headers=KEY)
    assert more.status_code == 409 and "delete one first" in more.json()["error"]
    assert alone.post("/api/list/new", json={"name": "3"}, headers=OTHER).status_code == 200


def test_items_outlive_their_sae(http: httpx.Client, settings: Settings) -> None:
    shelf = open_shelf(settings.shelf_url)
    tokens = builders.corpus()
    write.put_sae(shelf, builders.sae_record("4-gone", fingerprint="4" * 64))
    write.begin_run(shelf, "tiny", "4-gone", tokens.record.id, {}, "going")
    write.put_features(shelf, "going", builders.batch(tokens, 0, 64))
    write.finish_runs(shelf, {"going": {}})
    some = [feature(7, "4-gone"), feature(1)]
    list_id = ask(http, "new-with-features", name="x", features=some)["id"]
    write.delete_sae(shelf, "tiny", "4-gone")
    shelf.close()
    gone, there = ask(http, "get", {}, listId=list_id)["neurons"]
    assert (gone["layer"], gone["index"], gone["neuron"]) == ("4-gone", "7", None)
    assert there["neuron"]["index"] == "1"
    assert ask(http, "remove", listId=list_id, **feature(7, "4-gone"))["layer"] == "4-gone"
