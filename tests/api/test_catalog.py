"""GET /v1/catalog."""

from dataclasses import asdict

import pytest
from fastapi.testclient import TestClient

from app.store import catalog
from app.store.engine import Shelf
from tests.store.test_catalog import ENTRIES


def test_it_is_searched_and_paged(client: TestClient, shelf: Shelf) -> None:
    catalog.replace(shelf, "one", ENTRIES)
    first = client.get("/v1/catalog", params={"q": "res", "limit": 2}).json()
    path = "saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre"
    assert first["items"][0] == {**asdict(ENTRIES[0]), "path": path}
    assert first["items"][1]["l0"] is None
    params = {"q": "res", "limit": "2", "cursor": first["next_cursor"]}
    second = client.get("/v1/catalog", params=params).json()
    assert [item["release"] for item in second["items"]] == ["gemma-100%_res"]
    assert second["next_cursor"] is None
    assert client.get("/v1/catalog?model=gemma-2-2b").json()["items"] == second["items"]
    assert client.get("/v1/catalog?model=nothing").json() == {"items": [], "next_cursor": None}


def test_unchanged_answers_are_304(client: TestClient, shelf: Shelf) -> None:
    catalog.replace(shelf, "one", ENTRIES)
    tag = client.get("/v1/catalog").headers["etag"]
    assert client.get("/v1/catalog", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("query", ["q=%00", "model=%00", "limit=0", "words=a", "q=" + 201 * "a"])
def test_odd_questions_are_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/catalog?{query}").status_code == 422


def test_it_says_when_it_is_not_there_yet(client: TestClient) -> None:
    answer = client.get("/v1/catalog")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "not on the shelf yet" in answer.json()["detail"]
