"""The document that clients are generated from, and /docs."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from app.settings import Settings

ROOT = Path(__file__).parents[2]
OPERATIONS = {
    "list_models": "GET /v1/models",
    "get_model": "GET /v1/models/{model}",
    "delete_model": "DELETE /v1/models/{model}",
    "list_saes": "GET /v1/models/{model}/saes",
    "get_sae": "GET /v1/models/{model}/saes/{sae}",
    "delete_sae": "DELETE /v1/models/{model}/saes/{sae}",
    "list_features": "GET /v1/models/{model}/saes/{sae}/features",
    "get_feature": "GET /v1/models/{model}/saes/{sae}/features/{index}",
    "list_neurons": "GET /v1/models/{model}/neurons",
    "get_neuron": "GET /v1/models/{model}/neurons/{layer}/{index}",
    "get_activations": "POST /v1/activations",
    "search_features": "POST /v1/features/search",
    "steer": "POST /v1/steer",
    "sweep": "POST /v1/steer/sweep",
    "calibrate": "POST /v1/steer/calibrate",
    "create_completion": "POST /v1/completions",
    "create_chat_completion": "POST /v1/chat/completions",
    "infer_health": "GET /inference/health",
    "infer_capabilities": "GET /inference/v1/capabilities",
    "infer_single": "POST /inference/v1/activation/single",
    "infer_single_batch": "POST /inference/v1/activation/single-batch",
    "infer_all": "POST /inference/v1/activation/all",
    "infer_all_batch": "POST /inference/v1/activation/all-batch",
    "infer_topk": "POST /inference/v1/activation/topk-by-token",
    "infer_topk_batch": "POST /inference/v1/activation/topk-by-token-batch",
    "infer_source": "POST /inference/v1/activation/source",
    "infer_raw": "POST /inference/v1/activation/raw",
    "infer_completion": "POST /inference/v1/steer/completion",
    "infer_chat": "POST /inference/v1/steer/completion-chat",
    "infer_tokenize": "POST /inference/v1/tokenize",
    "infer_template": "POST /inference/v1/apply-chat-template",
    "infer_sae_vector": "POST /inference/v1/util/sae-vector",
    "infer_cossim": "POST /inference/v1/util/sae-topk-by-decoder-cossim",
    "np_get_feature": "GET /api/feature/{model}/{source}/{index}",
    "np_get_features": "POST /api/features",
    "np_get_features_page": "POST /api/features-offset",
    "np_get_activations": "POST /api/activation/get",
    "np_get_model": "POST /api/model/get",
    "np_list_models": "POST /api/model/list",
    "np_get_source_set": "GET /api/source-set/{model}/{name}",
    "np_search_sources": "POST /api/explanation/search",
    "np_search_model": "POST /api/explanation/search-model",
    "np_search_release": "POST /api/explanation/search-release",
    "np_search_explanations": "POST /api/explanation/search-all",
    "np_get_explanation": "GET /api/explanation/{explanation}",
    "np_new_list": "POST /api/list/new",
    "np_new_list_with_features": "POST /api/list/new-with-features",
    "np_add_to_list": "POST /api/list/add-features",
    "np_get_list": "POST /api/list/get",
    "np_list_lists": "POST /api/list/list",
    "np_update_list": "POST /api/list/update",
    "np_edit_list_item": "POST /api/list/edit-feature",
    "np_remove_from_list": "POST /api/list/remove",
    "np_delete_list": "POST /api/list/delete",
    "np_new_vector": "POST /api/vector/new",
    "np_get_vector": "POST /api/vector/get",
    "np_delete_vector": "POST /api/vector/delete",
    "np_list_vectors": "POST /api/vector/list-owned",
    "np_test_feature": "POST /api/activation/new",
    "np_test_source": "POST /api/activation/source",
    "np_search_text": "POST /api/search-all",
    "np_search_tokens": "POST /api/search-topk-by-token",
    "np_steer": "POST /api/steer",
    "np_steer_chat": "POST /api/steer-chat",
    "np_compare": "POST /api/cossim",
    "np_tokenize": "POST /api/tokenize",
    "list_catalog": "GET /v1/catalog",
    "submit_job": "POST /v1/jobs",
    "list_jobs": "GET /v1/jobs",
    "get_job": "GET /v1/jobs/{job}",
    "watch_job": "GET /v1/jobs/{job}/events",
    "get_curve": "GET /v1/jobs/{job}/curve.svg",
    "cancel_job": "POST /v1/jobs/{job}/cancel",
    "retry_job": "POST /v1/jobs/{job}/retry",
    "delete_job": "DELETE /v1/jobs/{job}",
    "get_health": "GET /healthz",
    "get_readiness": "GET /readyz",
    "get_metrics": "GET /metrics",
}
OPENAI = {"POST /v1/completions", "POST /v1/chat/completions"}
OTHERS = OPENAI | {
    row for row in OPERATIONS.values() if row.partition(" ")[2].startswith(("/api/", "/inference/"))
}
"""Routes whose errors have the shape of another service."""


@pytest.fixture(scope="module")
def document(reader: TestClient) -> dict[str, Any]:
    return reader.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_operations_have_the_names_that_clients_use(document: dict[str, Any]) -> None:
    assert {op["operationId"]: row for row, op in operations(document)} == OPERATIONS


def test_everything_is_explained(document: dict[str, Any]) -> None:
    known_tags = {tag["name"] for tag in document["tags"]}
    for row, operation in operations(document):
        assert operation["summary"][0].isupper(), row
        assert len(operation["description"]) > 20, row
        assert set(operation["tags"]) <= known_tags, row
        for parameter in operation.get("parameters", []):
            described = "description" in parameter or parameter["name"].endswith(("_min", "_max"))
            assert described, f"{row} {parameter['name']}"


def test_errors_are_documented_as_problems(document: dict[str, Any]) -> None:
    for row, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == [
                    "application/json" if row in OTHERS else "application/problem+json"
                ], (row, status)
        if row.partition(" ")[2].startswith(("/v1", "/api", "/inference/v1")):
            takes = row.startswith("GET") or "requestBody" in operation
            wrong = {"400" if row in OTHERS else "422"} if takes else set()
            assert wrong | {"503"} <= set(operation["responses"]), row
        assert "400" in operation["responses"], row  # a Host that is not ours
        if "requestBody" in operation:
            assert {"413", "415"} <= set(operation["responses"]), row
        if "/features" in row:
            assert "410" in operation["responses"], row
        if row.startswith(("POST", "DELETE")):
            assert "403" in operation["responses"], row
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["properties"]["detail"]


def test_headers_are_documented(document: dict[str, Any]) -> None:
    for row, operation in operations(document):
        responses = operation["responses"]
        if "503" in responses:
            assert "Retry-After" in responses["503"]["headers"], row
        if row.startswith(("GET /v1/models", "GET /v1/catalog")):
            assert "ETag" in responses["200"]["headers"], row
            assert "ETag" in responses["304"]["headers"], row
    paths = document["paths"]
    assert "Location" in paths["/v1/jobs"]["post"]["responses"]["202"]["headers"]


def test_keys_are_optional_and_those_of_lists_are_parameters(document: dict[str, Any]) -> None:
    """Lists and vectors belong to any text: a security scheme would promise that a wrong one is refused."""
    assert document["security"] == [{}, {"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert not any("security" in operation for _, operation in operations(document))
    for row, operation in operations(document):
        keys = [one for one in operation.get("parameters", []) if one["name"] == "x-api-key"]
        needs = row.startswith("POST /api") and "401" in operation["responses"]
        asks = needs or row.startswith("GET /api/feature")
        assert [one["required"] for one in keys if one["in"] == "header"] == [needs] * asks, row


def test_bounds_of_integers_are_exact(document: dict[str, Any]) -> None:
    """FastAPI makes them floats, and 2**63 - 1 another number."""
    seed = document["components"]["schemas"]["VerifySpec"]["properties"]["seed"]
    assert (repr(seed["minimum"]), repr(seed["maximum"])) == ("0", str(2**63 - 1))


def test_schema_names_are_plain(document: dict[str, Any]) -> None:
    """A generated client has classes of these names."""
    for name in document["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), name


def test_deleting_has_no_example_to_click(document: dict[str, Any]) -> None:
    for row, operation in operations(document):
        if row.startswith("DELETE"):
            assert not any("examples" in parameter for parameter in operation["parameters"])


def test_docs_need_nothing_from_elsewhere(reader: TestClient) -> None:
    page = reader.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 4
    for link in linked:
        answer = reader.get(f"/{link}")
        assert answer.status_code == 200, link
        assert len(answer.content) > 100
    script = reader.get("/docs/start.js").text
    assert 'url: "openapi.json"' in script
    assert "<script>" not in page.text


def test_every_route_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    neuronpedia = (ROOT / "docs" / "neuronpedia.md").read_text()
    for row in OPERATIONS.values():
        path = row.partition(" ")[2]
        if path.startswith("/api/"):
            assert row.replace("/api/", "") in neuronpedia, row
        elif path.startswith("/inference/"):
            assert path.rpartition("/")[2] in neuronpedia, row
        else:
            assert f"`{row}`" in text, row


def test_every_setting_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        found = re.search(
            rf"^\| `SAESCOPE_{name.upper()}` \| (.*?) \| (.+) \|$", text, re.MULTILINE
        )
        assert found, name
        assert found[1] == shown(field.get_default(call_default_factory=True)), name
    named = set(re.findall(r"`SAESCOPE_([A-Z_]+)`", text))
    assert named == {name.upper() for name in Settings.model_fields}


def shown(default: object) -> str:
    """A default as the table writes it."""
    if default is None or default == []:
        return "none"
    if isinstance(default, list):
        return f"`{','.join(default)}`"
    return f"`{default}`"
