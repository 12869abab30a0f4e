"""Keys: who may ask for what, over a real process on both databases."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.api import features
from app.api.access import COOKIE
from app.api.keyring import REFRESH_S
from app.api.scopes import OPEN, needed
from app.keys import SCOPES, csrf_token
from app.main import ROUTERS
from app.settings import Settings
from app.store import audit, keys
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.databases import prepare

LOAD = {"kind": "load", "model": "m", "path": "p"}


class Guarded:
    """A service with a key of each scope."""

    def __init__(self, settings: Settings) -> None:
        prepare(settings.shelf_url)
        self.settings = settings
        self.shelf: Shelf = open_shelf(settings.shelf_url)
        self.keys = {scope: keys.create(self.shelf, scope, scope) for scope in SCOPES}
        self.server = ServerProcess(settings).start()

    def ask(self, method: str, path: str, key: str | None = None, **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.server.client.request(method, path, headers=headers, **more)  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        self.server.stop()
        self.shelf.close()


@pytest.fixture
def guarded(shelf_url: str, tmp_path: Path) -> Iterator[Guarded]:
    database = None if shelf_url.startswith("sqlite") else shelf_url.replace("+psycopg", "")
    place = Guarded(Settings(data_dir=tmp_path, database_url=database, live_url=NOBODY))
    yield place
    place.close()


def until(status: int, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer with a status, which comes within seconds, or later on a busy machine."""
    deadline = time.monotonic() + 60
    while (answer := ask()).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(REFRESH_S / 4)
    return answer


def test_each_scope_may_do_what_it_says(guarded: Guarded) -> None:
    asks = [
        ("read", "GET", "/v1/models", None),
        ("read", "GET", "/metrics", None),
        ("infer", "POST", "/v1/steer", {"model": "m", "prompt": "a", "steering": []}),
        ("infer", "POST", "/v1/completions", {"model": "m", "prompt": "a"}),
        ("infer", "POST", "/api/search-all", {"modelId": "m", "text": "a"}),
        ("infer", "POST", "/inference/v1/tokenize", {"model": "m", "text": "a"}),
        ("infer", "GET", "/text", None),
        ("admin", "POST", "/v1/jobs", LOAD),
        ("admin", "DELETE", "/v1/models/nope", None),
    ]
    for need, method, path, body in asks:
        assert guarded.ask(method, path, json=body).status_code == 401, path
        for scope in SCOPES:
            _, text = guarded.keys[scope]
            status = guarded.ask(method, path, text, json=body).status_code
            enough = SCOPES.index(scope) >= SCOPES.index(need)
            assert (status not in (401, 403)) == enough, (path, scope, status)
            assert enough or status == 403


def test_no_route_is_open_but_those_that_are_named(guarded: Guarded) -> None:
    routes = [
        (method, re.sub(r"\{[^}]+\}", "1", route.path))
        for route in [*(one for router in ROUTERS for one in router.routes), features.lookup]
        for method in sorted(getattr(route, "methods", None) or [])
    ]
    assert len(routes) > 100
    for method, path in routes:
        answer = guarded.ask(method, path)
        is_open = OPEN.fullmatch(path) is not None
        assert (answer.status_code != 401) == is_open, (method, path, answer.status_code)
    assert {path for _, path in routes if OPEN.fullmatch(path)} == {
        "/healthz", "/readyz", "/login", "/logout", "/static/1/1", "/inference/health",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1/models/x", "/v1/jobs/x/retry", "/new", "/v1/steering", "/api", "/v1/steer/x"]
)
def test_what_is_not_named_needs_admin(path: str) -> None:
    assert needed("POST", path) == "admin"
    assert needed("DELETE", path) == "admin"


def test_what_is_no_key_is_refused_in_the_callers_shape(guarded: Guarded) -> None:
    key, text = guarded.keys["admin"]
    other = guarded.keys["read"][1]
    for wrong in (
        text[:-1], text + "0", text.upper(), key.id, f"saescope_{key.id}_", "saescope__", "é",
        f"saescope_{key.id}_{other.rpartition('_')[2]}", f"saescope_nobody_{text.rpartition('_')[2]}",
    ):  # fmt: skip
        answer = guarded.server.client.get("/v1/models", headers={"x-api-key": wrong.encode()})
        assert answer.status_code == 401
        assert answer.json()["type"].endswith("unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    told = guarded.server.client.post("/v1/completions", json={"model": "m", "prompt": "a"})
    assert (told.status_code, "message" in told.json()["error"]) == (401, True)
    page = guarded.server.client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 401 and 'href="/login"' in page.text


def test_a_revoked_key_is_none_within_seconds(guarded: Guarded) -> None:
    key, text = guarded.keys["read"]
    assert guarded.ask("GET", "/v1/models", text).status_code == 200
    keys.revoke(guarded.shelf, key.id)
    until(401, lambda: guarded.ask("GET", "/v1/models", text))
    for one, _ in guarded.keys.values():
        keys.revoke(guarded.shelf, one.id)
    # When the last is revoked, it is nobody's, and not everyone's again.
    until(401, lambda: guarded.ask("GET", "/v1/models", guarded.keys["admin"][1]))
    assert guarded.ask("GET", "/v1/models").status_code == 401


def test_requests_of_a_minute_and_of_a_day_are_bounded(guarded: Guarded) -> None:
    _, minute = keys.create(guarded.shelf, "", "read", per_minute=3)
    _, day = keys.create(guarded.shelf, "", "read", per_day=3)
    _, last = keys.create(guarded.shelf, "", "read")
    until(200, lambda: guarded.ask("GET", "/v1/models", last))
    for text in (minute, day):
        statuses = [guarded.ask("GET", "/v1/models", text).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
    refused = guarded.ask("GET", "/v1/models", minute)
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert "3 requests a minute" in refused.json()["detail"]
    guarded.server.stop()
    # Another process, which has counted nothing itself.
    second = ServerProcess(guarded.settings).start()
    try:
        told = second.client.get("/v1/models", headers={"authorization": f"Bearer {day}"})
        assert told.status_code == 429 and "3 requests a day" in told.json()["detail"]
    finally:
        second.stop()


def test_when_a_key_was_used_is_kept(guarded: Guarded) -> None:
    key, text = guarded.keys["infer"]
    before = datetime.now(UTC)
    assert guarded.ask("GET", "/v1/models", text).status_code == 200
    guarded.server.stop()
    found = {one.id: one for one in keys.all_of_them(guarded.shelf)}
    used = found[key.id].used_at
    assert used is not None and before <= used <= datetime.now(UTC)
    assert found[guarded.keys["read"][0].id].used_at is None
    assert keys.counted(guarded.shelf, datetime.now(UTC).date()) == {key.id: 1}


def test_what_changes_something_is_written_down(guarded: Guarded) -> None:
    key, text = guarded.keys["admin"]
    job = guarded.ask("POST", "/v1/jobs", text, json=LOAD).json()["id"]
    assert guarded.ask("POST", f"/v1/jobs/{job}/cancel", text).status_code == 200
    assert guarded.ask("POST", "/v1/jobs", guarded.keys["read"][1], json=LOAD).status_code == 403
    assert guarded.ask("GET", "/v1/models", text).status_code == 200
    found = [(one.who, one.action, one.outcome) for one in audit.latest(guarded.shelf, 10)]
    assert found == [
        (key.id, f"POST /v1/jobs/{job}/cancel", "200"),
        (key.id, "POST /v1/jobs", f"202 /v1/jobs/{job}"),
    ]


def test_a_browser_signs_in_and_out(guarded: Guarded) -> None:
    _, text = guarded.keys["admin"]
    browser = httpx.Client(base_url=guarded.server.url, trust_env=False)
    assert browser.post("/login", json={"key": "saescope_a_b"}).status_code == 401
    answer = browser.post("/login", json={"key": f" {text}\n"})
    assert answer.status_code == 204
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes and "samesite=strict" in attributes
    page = browser.get("/", headers={"accept": "text/html"})
    (token,) = re.findall('<meta name="csrf" content="([0-9a-f]{64})">', page.text)
    assert token == csrf_token(text) and text not in page.text
    for wrong in ({}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}):
        assert browser.post("/v1/jobs", json=LOAD, headers=wrong).status_code == 403
    right = browser.post("/v1/jobs", json=LOAD, headers={"x-csrf-token": token})
    assert right.status_code == 202
    assert browser.post("/logout").status_code == 204
    assert COOKIE not in browser.cookies
    assert browser.get("/v1/models").status_code == 401


def test_keys_are_not_in_what_is_kept_or_logged(guarded: Guarded) -> None:
    texts = [text for _, text in guarded.keys.values()]
    for text in texts:
        guarded.ask("POST", "/v1/jobs", text, json=LOAD)
        guarded.ask("GET", "/v1/models", text[:-1])
    guarded.server.stop()
    secrets = [text.rpartition("_")[2].encode() for text in texts]
    for path in guarded.settings.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path
