"""Every error under `/api` says one sentence under both names, and has a status that clients know."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from neuronpedia.np_activation import Activation
from neuronpedia.np_feature import Feature
from neuronpedia.requests.activation_request import ActivationRequest
from neuronpedia.requests.feature_request import FeatureRequest
from requests.exceptions import HTTPError

from app.compat.neuronpedia.unserved import REFUSED
from app.settings import Settings
from tests.api.conftest import NOBODY, broken_client_of, client_of
from tests.api.server import ServerProcess
from tests.compat.neuronpedia.conftest import KEY

ROOT = Path(__file__).parents[3]
FEATURE = {"modelId": "tiny", "layer": "0-res", "index": 1}


def sentence_of(answer: httpx.Response, status: int) -> str:
    """What an error says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error", "message"]
    assert body["error"] == body["message"]
    assert not body["error"].startswith("body.")
    return body["error"]


GETS = [
    ("/api/feature/gpt5/0-res/1", 404, "There is no model 'gpt5'"),
    ("/api/feature/tiny/9-res/1", 404, "has no SAE '9-res'"),
    ("/api/feature/tiny/1-mlp/1", 404, "has no evidence yet"),
    ("/api/feature/tiny/0-res/64", 404, "has features 0 to 63"),
    ("/api/feature/tiny/0-res/x", 400, "valid integer, not 'x'"),
    ("/api/feature/tiny/0-res/2147483648", 400, "at most 2147483647"),
    ("/api/feature/ti%20ny/0-res/1", 400, "path.model: string should match"),
    ("/api/feature/tiny/a%00b/1", 400, "path.source: string should match"),
    ("/api/feature/tiny/1-neuronpedia-resid-pre/123456789", 404, "has no SAE"),
    ("/api/source-set/tiny/a%00b", 400, "path.name"),
    ("/api/source-set/gpt5/res", 404, "There is no model 'gpt5'"),
    ("/api/nothing", 404, "There is no GET /api/nothing; /docs lists the routes."),
    ("/api/nothing/", 404, "There is no GET /api/nothing;"),
    ("/api/", 404, "There is no GET /api/"),
    ("/api/features", 405, "does not take GET; allowed: POST"),
    ("/api/explanation/search", 405, "does not take GET; allowed: POST."),
    ("/api/explanation/search-all/", 405, "does not take GET; allowed: POST."),
    ("/api/explanation/search.all", 404, "There is no explanation 'search.all'"),
    ("/api/explanation/export", 400, "POST /v1/jobs with kind `export`"),
]


@pytest.mark.parametrize(("path", "status", "sentence"), GETS)
def test_gets(http: httpx.Client, path: str, status: int, sentence: str) -> None:
    assert sentence in sentence_of(http.get(path), status)


POSTS: list[tuple[str, Any, int, str]] = [
    ("features", {}, 400, "valid list"),
    ("features", [{}], 400, "0.modelId: a value is required"),
    ("features", [FEATURE | {"index": -1}], 400, "0.index"),
    ("features", [FEATURE | {"maxActsToReturn": -1}], 400, "0.maxActsToReturn"),
    ("features", [FEATURE | {"layer": "a b"}], 400, "0.layer"),
    ("features-offset", FEATURE | {"offset": -1}, 400, "offset"),
    ("features-offset", FEATURE | {"offset": 2**31}, 400, "offset"),
    ("features-offset", FEATURE | {"offset": True}, 400, "offset: give a number, or its digits"),
    ("features-offset", FEATURE | {"offset": "1\n"}, 400, "offset: give a number, or its digits"),
    ("features-offset", FEATURE | {"layer": "9-x"}, 404, "no SAE '9-x'"),
    ("activation/get", {"modelId": "tiny"}, 400, "source: a value is required"),
    ("model/get", {"id": 5}, 400, "id: input should be a valid string"),
    ("vector/get", {"modelId": "tiny", "source": "x"}, 400, "index: a value is required"),
    (
        "vector/get",
        {"modelId": "tiny", "source": "0-neuronpedia-resid-pre", "index": "12345678"},
        404,
        "There is no vector 12345678",
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "sentence"), POSTS)
def test_posts(http: httpx.Client, path: str, body: Any, status: int, sentence: str) -> None:
    assert sentence in sentence_of(http.post(f"/api/{path}", json=body), status)


def test_several_things_at_once_are_all_told(http: httpx.Client) -> None:
    told = sentence_of(http.post("/api/activation/get", json={"source": "a b"}), 400)
    assert "modelId: " in told and "source: " in told and "index: " in told


def test_what_is_refused_before_the_routes(alone: TestClient) -> None:
    json = {"Content-Type": "application/json"}
    broken = alone.post("/api/features", content=b"[{", headers=json)
    assert "not JSON" in sentence_of(broken, 400)
    large = alone.post("/api/features", content=b"[" + b" " * 30_000 + b"]", headers=json)
    assert "SAESCOPE_MAX_BODY_BYTES" in sentence_of(large, 413)
    form = alone.post("/api/features", content=b"x", headers={"Content-Type": "text/plain"})
    assert "application/json" in sentence_of(form, 415)
    foreign = alone.post("/api/list/list", headers={**KEY, "Origin": "https://evil.example"})
    assert "SAESCOPE_CORS_ORIGINS" in sentence_of(foreign, 403)
    host = alone.get("/api/features", headers={"Host": "evil.example"})
    assert "SAESCOPE_ALLOWED_HOSTS" in sentence_of(host, 400)
    # Other routes keep their own shape.
    assert alone.get("/v1/nothing").headers["content-type"] == "application/problem+json"


def test_a_broken_server_says_so(tmp_path: Path) -> None:
    with broken_client_of(Settings(data_dir=tmp_path, live_url=NOBODY)) as client:
        answer = client.post("/api/model/get", json={"id": "tiny"})
    assert answer.status_code in (500, 503)
    assert list(answer.json()) == ["error", "message"]


def test_pages_of_allowed_origins_may_ask(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, live_url=NOBODY, cors_origins=["https://dash.example"])
    with client_of(settings) as client:
        for origin, allowed in (("https://dash.example", 200), ("https://evil.example", 400)):
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-api-key,content-type",
            }
            assert client.options("/api/list/list", headers=asked).status_code == allowed


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_not_served_says_why(http: httpx.Client, path: str) -> None:
    concrete = path.replace("{rest:path}", "x/y").replace("{", "").replace("}", "")
    for method in ("GET", "POST"):
        told = sentence_of(http.request(method, f"/api/{concrete}"), 400)
        assert told == REFUSED[path] and len(told) > 25 and told.endswith(".")


def test_it_is_told_where_it_is_asked(np: ServerProcess) -> None:
    activation = Activation("tiny", "0-res", 1, ["a"], [1.0])
    with pytest.raises(HTTPError, match="kind `import` takes over"):
        ActivationRequest().upload_batch("tiny", "0-res", "1", [activation])
    feature = Feature("tiny", "0-res", 1, 0.1, activations=[activation], explanations=[])
    with pytest.raises(HTTPError, match="kind `import` takes over"):
        FeatureRequest().upload_batch("tiny", "0-res", [feature])


def test_every_route_is_in_the_table() -> None:
    text = (ROOT / "docs" / "neuronpedia.md").read_text()
    for path in REFUSED:
        name = path.replace("{rest:path}", "*").replace("{explanation}", "{id}")
        assert f"`{name.partition('/*')[0]}" in text, path
