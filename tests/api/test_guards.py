"""Who may ask what: Host, Origin, content type, size, CORS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.api.conftest import NOBODY, client_of
from tests.api.test_problems import problem_of

JSON = {"Content-Type": "application/json"}


def settings_of(folder: Path, **changes: object) -> Settings:
    return Settings(data_dir=folder, live_url=NOBODY, **changes)  # type: ignore[arg-type]


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """An application without a database: none of these requests may come that far."""
    return client_of(settings_of(tmp_path))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:9999", "[::1]", "[::1]:8000"]
)
def test_own_hosts_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "[::2]", "::1"],
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/docs", "/openapi.json", "/nothing"])
def test_other_hosts_are_not(client: TestClient, host: str, path: str) -> None:
    body = problem_of(client.get(path, headers={"Host": host}), 400)
    assert "SAESCOPE_ALLOWED_HOSTS" in body["detail"]


def test_the_bound_host_and_named_hosts_are_answered(tmp_path: Path) -> None:
    client = client_of(settings_of(tmp_path, host="fd00::7", allowed_hosts=["sae.example"]))
    for host in ("sae.example", "SAE.example:443", "[fd00::7]:8000"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    assert client.get("/healthz", headers={"Host": "localhost"}).status_code == 400


def test_a_star_answers_for_every_host(tmp_path: Path) -> None:
    client = client_of(settings_of(tmp_path, allowed_hosts=["*"]))
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


CHANGES = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/steer"),
    ("POST", "/v1/jobs/x/cancel"),
    ("DELETE", "/v1/models/tiny"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://localhost.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign_pages_change_nothing(
    client: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    body = problem_of(client.request(method, path, headers=headers), 403)
    assert "SAESCOPE_CORS_ORIGINS" in body["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_own_pages_and_programs_may(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/jobs", json={}, headers=headers).status_code == 422


def test_foreign_pages_cannot_read_either(client: TestClient) -> None:
    answer = client.get("/healthz", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    preflight = client.options(
        "/v1/jobs",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[TestClient]:
    """An application that a dashboard on another origin may use."""
    yield client_of(settings_of(tmp_path, cors_origins=["https://dash.example"]))


def test_a_named_origin_may_do_everything(shared: TestClient) -> None:
    origin = {"Origin": "https://dash.example", "Sec-Fetch-Site": "cross-site"}
    preflight = shared.options(
        "/v1/jobs",
        headers=origin
        | {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,idempotency-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://dash.example"
    answer = shared.post("/v1/jobs", json={}, headers=origin)
    assert answer.status_code == 422
    assert answer.headers["access-control-allow-origin"] == "https://dash.example"
    refused = shared.post("/v1/jobs", content="x", headers=origin)
    assert refused.status_code == 415
    assert refused.headers["access-control-allow-origin"] == "https://dash.example"
    other = shared.post("/v1/jobs", json={}, headers={"Origin": "https://evil.example"})
    assert other.status_code == 403


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "text/plain; application/json"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_must_be_declared_as_json(client: TestClient, declared: dict[str, str]) -> None:
    problem_of(client.post("/v1/steer", content=b"{}", headers=declared), 415)


@pytest.mark.parametrize("declared", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken(client: TestClient, declared: str) -> None:
    answer = client.post("/v1/steer", content=b"{}", headers={"Content-Type": declared})
    assert answer.status_code == 422


def test_a_body_is_limited(tmp_path: Path) -> None:
    client = client_of(settings_of(tmp_path, max_body_bytes=100))
    whole = b'{"a":"' + b"x" * 92 + b'"}'
    assert len(whole) == 100
    assert client.post("/v1/steer", content=whole, headers=JSON).status_code == 422
    for content in (whole + b" ", iter([whole, b" "]), iter([b"x" * 60] * 3)):
        body = problem_of(client.post("/v1/steer", content=content, headers=JSON), 413)
        assert "100 bytes (SAESCOPE_MAX_BODY_BYTES)" in body["detail"]
