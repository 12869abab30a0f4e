"""Every way of asking wrongly gets one clear sentence, with the right status."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.api.problems import ProblemBody
from app.main import create_app
from app.settings import Settings
from app.store import pages
from tests.api.conftest import client_of

FEATURES = "/v1/models/tiny/saes/0-res/features"
STEER = {"model": "tiny", "prompt": "x"}
ENTRY = {"sae": "0-res", "feature": 3}
TEXTS = {"model": "tiny", "saes": ["0-res"], "texts": ["x"]}
SEARCH = "/v1/features/search"
TEXT = {"model": "tiny", "text": "x"}
TRAIN = {"kind": "train", "model": "tiny", "sae": "mine", "hook_name": "blocks.0.hook_resid_post"}

GETS = [
    # path, status, what the sentence says
    ("/v1/models/gpt5", 404, "There is no model 'gpt5'; GET /v1/models lists"),
    ("/v1/models/bad%20id", 422, "path.model: string should match pattern"),
    ("/v1/models/a%00b", 422, "path.model: string should match pattern"),
    (f"/v1/models/{'x' * 200}", 422, "path.model: string should have at most 128 characters"),
    ("/v1/models?limit=0", 422, "query.limit: input should be greater than or equal to 1, not '0'"),
    ("/v1/models?limit=101", 422, "allowed: at most 100"),
    ("/v1/models?limit=ten", 422, "query.limit: input should be a valid integer, not 'ten'"),
    ("/v1/models?cursor=abc", 400, "`cursor` was not given out for this list"),
    ("/v1/models?page=2", 422, "query.page: there is no such field; allowed: cursor, limit"),
    ("/v1/models/gpt5/saes", 404, "There is no model 'gpt5'"),
    ("/v1/models/tiny/saes/9-res", 404, "has no SAE '9-res'"),
    ("/v1/models/tiny/saes?limit=-1", 422, "allowed: at least 1"),
    (f"{FEATURES}/64", 404, "There is no feature 64: SAE '0-res' has features 0 to 63"),
    (f"{FEATURES}/-1", 422, "path.index: input should be greater than or equal to 0"),
    (f"{FEATURES}/2147483648", 422, "path.index: input should be less than or equal to"),
    (f"{FEATURES}/{'9' * 30}", 422, "path.index: input should be less than or equal to"),
    (f"{FEATURES}/x", 422, "path.index: input should be a valid integer, not 'x'"),
    (f"{FEATURES}/1.5", 422, "path.index: input should be a valid integer"),
    (f"{FEATURES}/٣", 422, "path.index"),
    ("/v1/models/gpt5/saes/0-res/features/1", 404, "There is no model 'gpt5'"),
    ("/v1/models/tiny/saes/9-res/features/1", 404, "has no SAE '9-res'"),
    ("/v1/models/bad%20id/saes/0-res/features/1", 422, "path.model: string should match"),
    ("/v1/models/tiny/saes/a%00b/features/1", 422, "path.sae: string should match"),
    ("/v1/models/tiny/saes/fresh/features/1", 404, "has no evidence yet; submit a precompute job"),
    ("/v1/models/tiny/saes/fresh/features", 404, "has no evidence yet"),
    (f"{FEATURES}?sort=name", 422, "allowed: 'index', 'density' or 'max_activation'"),
    (f"{FEATURES}?order=up", 422, "allowed: 'asc' or 'desc'"),
    (f"{FEATURES}?density_min=nan", 422, "query.density_min: input should be a finite number"),
    (f"{FEATURES}?densty_min=1", 422, "query.densty_min: there is no such field; allowed: cursor"),
    (f"{FEATURES}?q=", 422, "query.q: string should have at least 1 character"),
    (f"{FEATURES}?q=!!", 422, "`q`"),
    (f"{FEATURES}?q={'a' * 201}", 422, "query.q: string should have at most 200 characters"),
    ("/v1/jobs?state=lost", 422, "query.state: input should be 'queued', 'running', 'done'"),
    (
        "/v1/jobs?kind=dance",
        422,
        "query.kind: input should be 'load', 'train', 'precompute', 'evaluate', 'verify', 'import' or 'export'",
    ),
    ("/v1/jobs?cursor=abc", 400, "`cursor` was not given out for this list"),
    ("/v1/jobs/none", 404, "There is no job none"),
    ("/v1/jobs/none/events", 404, "There is no job none"),
    ("/v1/jobs/a%00b", 422, "path.job: string should match"),
    ("/v1/nothing", 404, "There is no GET /v1/nothing; /docs lists the routes."),
    ("/nothing", 404, "There is no GET /nothing"),
    ("/docs/nothing.js", 404, "/docs has no file nothing.js"),
    ("/docs/..%2f__init__.py", 404, ""),
]

POSTS = [
    # path, body, status, what the sentence says
    ("/v1/activations", [], 422, "body: input should be a valid dictionary"),
    ("/v1/activations", {}, 422, "body.model: a value is required (and 2 more, see `errors`)"),
    ("/v1/activations", TEXTS | {"texts": []}, 422, "body.texts: list should have at least 1 item"),
    ("/v1/activations", TEXTS | {"texts": "x"}, 422, "body.texts: input should be a valid list"),
    (
        "/v1/steer",
        STEER | {"seed": False},
        422,
        "body.seed: input should be a valid integer, not F",
    ),
    ("/v1/steer", STEER | {"exact": 1}, 422, "body.exact: input should be a valid boolean, not 1"),
    (
        "/v1/steer",
        STEER | {"top_p": "1"},
        422,
        "body.top_p: input should be a valid number, not '1",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY | {"feature": "3"}]},
        422,
        "body.steering.0.feature: input should be a valid integer, not '3'",
    ),
    ("/v1/activations", TEXTS | {"texts": [3]}, 422, "body.texts.0: input should be a valid str"),
    ("/v1/activations", TEXTS | {"texts": ["x"] * 65}, 422, "at most 64 (SAESCOPE_MAX_TEXTS)"),
    (
        "/v1/activations",
        TEXTS | {"texts": ["ok", "x" * 50_001]},
        422,
        "body.texts.1 has 50,001 characters; allowed: at most 50,000 (SAESCOPE_MAX_TEXT_CHARS).",
    ),
    ("/v1/activations", TEXTS | {"saes": []}, 422, "body.saes: list should have at least 1 item"),
    ("/v1/activations", TEXTS | {"saes": ["a b"]}, 422, "body.saes.0: string should match pattern"),
    ("/v1/activations", TEXTS | {"top_k": 0}, 422, "body.top_k: input should be greater than or"),
    ("/v1/activations", TEXTS | {"topk": 1}, 422, "allowed: features, model, saes, texts, top_k"),
    (
        "/v1/activations",
        TEXTS | {"features": {"0-res": [-1]}},
        422,
        "body.features.0-res.0: input should be greater than or equal to 0",
    ),
    (SEARCH, {"model": "tiny"}, 422, "body: give exactly one of `text`, `contrast` and `vector`"),
    (SEARCH, TEXT | {"vector": [1.0]}, 422, "body: give exactly one of `text`, `contrast` and"),
    (SEARCH, TEXT | {"side": "encoder"}, 422, "body: `side` goes with `vector`"),
    (SEARCH, TEXT | {"saes": []}, 422, "body.saes: list should have at least 1 item"),
    (SEARCH, TEXT | {"limit": 0}, 422, "body.limit: input should be greater than or equal to 1"),
    (SEARCH, TEXT | {"limit": 101}, 422, "allowed: at most 100"),
    (SEARCH, TEXT | {"density_min": -1}, 422, "body.density_min: input should be greater than"),
    (SEARCH, TEXT | {"density": 1}, 422, "allowed: contrast, density_max, density_min, limit"),
    (SEARCH, TEXT | {"text": "x" * 50_001}, 422, "body.text has 50,001 characters; allowed"),
    (SEARCH, {"model": "tiny", "vector": []}, 422, "body.vector: list should have at least 1"),
    (SEARCH, {"model": "tiny", "vector": ["x"]}, 422, "body.vector.0: input should be a valid"),
    (
        SEARCH,
        {"model": "tiny", "contrast": {"positive": ["x"], "negative": []}},
        422,
        "body.contrast.negative: list should have at least 1 item",
    ),
    (
        SEARCH,
        {"model": "tiny", "contrast": {"positive": ["x"]}},
        422,
        "body.contrast.negative: a value is required",
    ),
    (
        SEARCH,
        {"model": "tiny", "contrast": {"positive": ["x"] * 33, "negative": ["y"] * 32}},
        422,
        "body.contrast has 65 texts; allowed: at most 64 (SAESCOPE_MAX_TEXTS).",
    ),
    (
        SEARCH,
        {"model": "tiny", "contrast": {"positive": ["x"], "negative": ["y", "y" * 50_001]}},
        422,
        "body.contrast.negative.1 has 50,001 characters",
    ),
    (
        SEARCH,
        {"model": "tiny", "contrast": {"positive": ["x"], "negative": ["y"], "over": "words"}},
        422,
        "allowed: 'tokens' or 'texts'",
    ),
    ("/v1/steer", {"model": "tiny"}, 422, "body: give either `prompt` or `messages`"),
    (
        "/v1/steer",
        STEER | {"messages": [{"role": "user", "content": "x"}]},
        422,
        "body: give either `prompt` or `messages`",
    ),
    ("/v1/steer", STEER | {"max_new_tokens": 0}, 422, "body.max_new_tokens: input should be great"),
    (
        "/v1/steer",
        STEER | {"max_new_tokens": 1_025},
        422,
        "at most 1,024 (SAESCOPE_MAX_NEW_TOKENS)",
    ),
    ("/v1/steer", STEER | {"temperature": -1}, 422, "body.temperature: input should be greater"),
    ("/v1/steer", STEER | {"top_p": 0}, 422, "body.top_p: input should be greater than 0"),
    ("/v1/steer", STEER | {"top_k": 0}, 422, "body.top_k: input should be greater than or equal"),
    ("/v1/steer", STEER | {"top_k": 2**70}, 422, "allowed: at most 1000000"),
    ("/v1/steer", STEER | {"seed": -1}, 422, "body.seed: input should be greater than or equal"),
    ("/v1/steer", STEER | {"stop": [""]}, 422, "body.stop.0: string should have at least 1"),
    ("/v1/steer", STEER | {"prompt": "x" * 50_001}, 422, "body.prompt has 50,001 characters"),
    ("/v1/steer", STEER | {"steering": [ENTRY] * 33}, 422, "at most 32 (SAESCOPE_MAX_STEERING)"),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY | {"strenght": 2}]},
        422,
        "body.steering.0.strenght: there is no such field; allowed: feature, hook, method",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY, {"sae": "0-res"}]},
        422,
        "body.steering.1: give either `sae` and `feature`, or `hook` and `vector`",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"hook": "h", "vector": [1.0], "method": "clamp"}]},
        422,
        "body.steering.0: `clamp` needs a feature",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"hook": "h", "vector": [1.0], "unit": "max_activation"}]},
        422,
        "body.steering.0.unit is `max_activation`, and a vector has no stored maximum",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY | {"method": "shout"}]},
        422,
        "allowed: 'add', 'clamp', 'ablate', 'orthogonal' or 'cap'",
    ),
    ("/v1/steer", STEER | {"steering": [ENTRY | {"sae": "9"}]}, 404, "has no SAE '9'"),
    ("/v1/steer", STEER | {"model": "gpt5", "steering": [ENTRY]}, 404, "no model 'gpt5'"),
    (
        "/v1/steer",
        STEER | {"model": "gpt5", "steering": [{"sae": "0-mlp", "feature": 1}]},
        404,
        "no model 'gpt5'",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY | {"feature": 64}]},
        422,
        "body.steering.0.feature is 64; allowed: 0 to 63 of 0-res",
    ),
    ("/v1/steer", STEER | {"steering": [ENTRY | {"feature": 2**70}]}, 422, "at most 2147483647"),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY | {"strength": -1.79e308}]},
        422,
        "body.steering.0.strength is -1.79e+308, which times the unit is more than 32-bit",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [ENTRY, ENTRY | {"strength": 1e39, "unit": "raw"}]},
        422,
        "body.steering.1.strength is 1e+39, which times the unit is more than 32-bit numbers hold",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"sae": "dead", "feature": 49}]},
        422,
        "feature 49 of dead never fired on the corpus, so that its maximum is 0; allowed: `raw`",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"sae": "fresh", "feature": 1}]},
        422,
        "fresh has no evidence to take the maximum from; allowed: `raw`, or a precompute job",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"sae": "0-mlp", "feature": 1}]},
        422,
        "0-mlp has no evidence to take the maximum from",
    ),
    (
        "/v1/steer",
        STEER | {"steering": [{"sae": "stuck", "feature": 1, "unit": "raw"}]},
        422,
        "is stuck, which cannot be steered: it reads inside attention",
    ),
    (
        "/v1/steer",
        STEER,
        503,
        "cannot be reached (ClientConnectorError); start it with `saescope worker",
    ),
    ("/v1/steer", STEER | {"stream": True}, 503, "cannot be reached"),
    ("/v1/activations", TEXTS, 503, "cannot be reached"),
    (SEARCH, TEXT, 503, "cannot be reached"),
    ("/v1/jobs", {}, 422, "body: unable to extract tag"),
    (
        "/v1/jobs",
        {"kind": "dance"},
        422,
        "allowed: 'load', 'train', 'precompute', 'evaluate', 'verify', 'import', 'export'",
    ),
    ("/v1/jobs", TRAIN | {"sae": "a b"}, 422, "body.train.sae: string should match pattern"),
    ("/v1/jobs", TRAIN | {"k": 0}, 422, "body.train.k: input should be greater than or equal"),
    ("/v1/jobs", TRAIN | {"seed": 2**63}, 422, "allowed: at most 9223372036854775807"),
    (
        "/v1/jobs",
        TRAIN | {"corpus": {"bundled": "storyworld", "seed": 2**64}},
        422,
        "body.train.corpus",
    ),
    ("/v1/jobs", TRAIN | {"d_sae": 2**64}, 422, "allowed: at most 10000000"),
    ("/v1/jobs", TRAIN | {"k": 2**64}, 422, "allowed: at most 10000000"),
    ("/v1/jobs", TRAIN | {"context_size": 2**64}, 422, "allowed: at most 10000000"),
    ("/v1/jobs", TRAIN | {"training_tokens": 2**64}, 422, "allowed: at most 1000000000000"),
    ("/v1/jobs", TRAIN | {"train_batch_tokens": 2**64}, 422, "allowed: at most 10000000"),
    (
        "/v1/jobs",
        TRAIN | {"epochs": 3},
        422,
        "body.train.epochs: there is no such field; allowed: also, architecture, context_size",
    ),
    (
        "/v1/jobs",
        {"kind": "precompute", "model": "tiny", "saes": []},
        422,
        "body.precompute.saes: list should have at least 1 item",
    ),
    ("/v1/jobs/none/cancel", None, 404, "There is no job none"),
    ("/v1/jobs/none/retry", None, 404, "There is no job none"),
]


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The answer's problem, which must have the shape that the document promises."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    parsed = ProblemBody.model_validate_json(answer.content, strict=True)
    assert parsed.status == status
    assert parsed.type.startswith("urn:saescope:problem:")
    assert parsed.detail.endswith(".")
    return body


@pytest.mark.parametrize(("path", "status", "sentence"), GETS)
def test_get(reader: TestClient, path: str, status: int, sentence: str) -> None:
    assert sentence in problem_of(reader.get(path), status)["detail"]


@pytest.mark.parametrize(("path", "body", "status", "sentence"), POSTS)
def test_post(reader: TestClient, path: str, body: Any, status: int, sentence: str) -> None:
    assert sentence in problem_of(reader.post(path, json=body), status)["detail"]


CURSORS = [
    # path, what its cursors belong to, a position that no list gave out
    ("/v1/models", ["models"], ["a\0b"]),
    ("/v1/models", ["models"], [["a"]]),
    ("/v1/models", ["models"], 7),
    ("/v1/models/tiny/saes", ["saes", "tiny"], ["a\0b"]),
    ("/v1/jobs", ["jobs", None, None], [2**63, []]),
    ("/v1/jobs", ["jobs", None, None], [-(2**63), []]),
    ("/v1/jobs", ["jobs", None, None], [10**15, []]),
    ("/v1/jobs", ["jobs", None, None], [True, []]),
]


@pytest.mark.parametrize(("path", "query", "position"), CURSORS)
def test_a_crafted_cursor_is_400(
    reader: TestClient, path: str, query: list[Any], position: list[Any]
) -> None:
    crafted = pages.encode(query, position)
    for cursor in (crafted, "é", "A", "%00", "bnVsbA", "WzEsMiwzXQ"):
        body = problem_of(reader.get(path, params={"cursor": cursor}), 400)
        assert "`cursor` was not given out for this list" in body["detail"]


@pytest.mark.parametrize("sort", ["index", "density", "max_activation"])
def test_a_crafted_cursor_of_features_is_no_500(reader: TestClient, sort: str) -> None:
    run = reader.get("/v1/models/tiny/saes/0-res").json()["provenance"]["run_id"]
    query = ["tiny", "0-res", sort, "asc", None, None, None, None, None]
    for index in (2**64 - 1, -(2**63), 2**40):
        for value in (1e308, -1e308, 5e-324):
            position = [index] if sort == "index" else [value, index]
            cursor = pages.encode(query, position, run)
            answer = reader.get(FEATURES, params={"sort": sort, "cursor": cursor})
            assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize("path", ["/v1/models/none", "/v1/models/tiny/saes/none", "/v1/jobs/none"])
def test_delete_of_nothing(reader: TestClient, path: str) -> None:
    assert "no" in problem_of(reader.delete(path), 404)["detail"]


def test_a_422_says_where_what_and_what_is_allowed(reader: TestClient) -> None:
    body = {"model": 3, "saes": [], "texts": ["x"], "top_k": 1_000, "extra": 1}
    errors = problem_of(reader.post("/v1/activations", json=body), 422)["errors"]
    assert errors == [
        {"where": "body.model", "what": "input should be a valid string, not 3"},
        {
            "where": "body.saes",
            "what": "list should have at least 1 item after validation, not 0",
            "allowed": "a length of at least 1",
        },
        {
            "where": "body.top_k",
            "what": "input should be less than or equal to 256, not 1000",
            "allowed": "at most 256",
        },
        {
            "where": "body.extra",
            "what": "there is no such field",
            "allowed": "features, model, saes, texts, top_k",
        },
    ]


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": ',
        b"hello",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b'{"model": "tiny", "prompt": "\\ud800"}',
        b'{"model": "tiny", "prompt": "x", "temperature": NaN}',
        b'{"model": "tiny", "prompt": "x", "temperature": 1e999}',
        b'{"model": "tiny", "prompt": "x", "seed": ' + b"1" * 5_000 + b"}",
        b'{"model": "tiny", "prompt": "x", "steering": [{"hook": "h", "vector": [Infinity]}]}',
    ],
)
def test_what_is_not_json_is_400(reader: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = reader.post("/v1/steer", content=content, headers=headers)
    assert "The body is not JSON: " in problem_of(answer, 400)["detail"]


def test_long_values_are_not_repeated_whole(reader: TestClient) -> None:
    answer = reader.post("/v1/steer", json=STEER | {"temperature": "x" * 10_000})
    assert len(answer.content) < 1_000


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/models", "GET, HEAD"),
        ("POST", "/v1/models/tiny", "DELETE, GET, HEAD"),
        ("PATCH", "/v1/jobs/x", "DELETE, GET, HEAD"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("GET", "/v1/steer", "POST"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
    ],
)
def test_wrong_method_names_the_right_ones(
    reader: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = reader.request(method, path)
    assert answer.headers["allow"] == allowed
    assert allowed in problem_of(answer, 405)["detail"]


def test_an_unforeseen_error_tells_nothing_and_is_logged(stocked: Settings) -> None:
    app = create_app(stocked)

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("the secret is 42")

    silent = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = silent.get("/broken")
    assert "42" not in answer.text
    assert (
        problem_of(answer, 500)["detail"]
        == "Something went wrong in the server; its log says what."
    )
    with pytest.raises(ZeroDivisionError):  # what the server logs
        TestClient(app, base_url="http://localhost").get("/broken")


@pytest.mark.parametrize("path", ["/v1/models", FEATURES, f"{FEATURES}/3", "/v1/jobs"])
def test_a_database_that_is_away_is_503(tmp_path: Path, path: str) -> None:
    away = Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:9/none")
    answer = client_of(away).get(path)
    assert "The database does not answer" in problem_of(answer, 503)["detail"]
    assert int(answer.headers["retry-after"]) > 0
