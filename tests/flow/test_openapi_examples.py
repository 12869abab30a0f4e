"""Every example of the document is run against a real service, as a click in /docs would, and its
answer compared with the schema that the document promises."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.flow.conftest import slow_on_postgres
from tests.flow.service import Service

pytestmark = pytest.mark.timeout(900)
PATIENCE_S = 400
Operation = tuple[str, str, dict[str, Any]]
"""Method, path, and the operation's part of the document."""


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def filled_in(path: str, operation: dict[str, Any]) -> str | None:
    """The path with its examples; None when a parameter has none."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            if "examples" not in parameter:
                return None
            (example,) = parameter["examples"].values()
            path = path.replace(f"{{{parameter['name']}}}", str(example["value"]))
    return path


def bodies(operation: dict[str, Any]) -> dict[str, Any]:
    """Examples of the request body by name."""
    content = operation["requestBody"]["content"]["application/json"]
    return {name: example["value"] for name, example in content["examples"].items()}


def check(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> None:
    """A documented 2xx, whose JSON is as documented."""
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
    response = operation["responses"][str(answer.status_code)]
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if not answer.content:
        return
    assert media_type in response["content"]
    if media_type == "application/json":
        schema = response["content"][media_type]["schema"]
        whole = {**schema, "components": document["components"]}
        Draft202012Validator(whole).validate(answer.json())


def patiently(client: httpx.Client, path: str) -> httpx.Response:
    """The answer; the catalog may come to the shelf a while after the service is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := client.get(path)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(int(answer.headers["retry-after"]))
    return answer


def test_every_lookup(client: httpx.Client, document: dict[str, Any]) -> None:
    run = []
    for method, path, operation in operations(document):
        filled = filled_in(path, operation)
        if method == "get" and filled:
            check(document, operation, patiently(client, filled))
            run.append(path)
    assert "/v1/models/{model}/saes/{sae}/features/{index}" in run
    assert len(run) >= 9


@pytest.mark.parametrize(
    "path",
    [
        "/v1/activations", "/v1/features/search", "/v1/steer", "/v1/completions",
        "/api/features", "/api/features-offset", "/api/activation/get", "/api/model/get",
        "/api/explanation/search", "/api/explanation/search-model", "/api/explanation/search-release",
        "/api/explanation/search-all", "/api/vector/get", "/api/list/new",
        "/api/list/new-with-features",
    ],
)  # fmt: skip
def test_every_example_of_a_question(
    client: httpx.Client, document: dict[str, Any], path: str
) -> None:
    operation = document["paths"][path]["post"]
    for name, body in bodies(operation).items():
        answer = client.post(path, json=body, headers={"x-api-key": "examples"})
        check(document, operation, answer)
        if isinstance(body, dict) and body.get("stream"):
            assert "event: done" in answer.text or "data: [DONE]" in answer.text, name


@slow_on_postgres
def test_every_job_example_ends_well(client: httpx.Client, document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/jobs"]["post"]
    submitted = {}
    for name, body in bodies(operation).items():
        answer = client.post("/v1/jobs", json=body)
        check(document, operation, answer)
        submitted[name] = answer.json()["id"]
    for name, job in submitted.items():
        view = ended(client, job)
        assert view["state"] == "done", f"{name}: {view['error']}"
    trained = bodies(operation)["train"]
    sae = f"/v1/models/{trained['model']}/saes/{trained['sae']}"
    assert client.get(sae).json()["hook_name"] == trained["hook_name"]
    assert client.delete(sae).status_code == 204
    assert client.get(sae).status_code == 404


def test_every_row_about_a_job(client: httpx.Client, document: dict[str, Any]) -> None:
    paths = document["paths"]
    spec = bodies(paths["/v1/jobs"]["post"])["train"] | {"training_tokens": 10_000_000}
    job = client.post("/v1/jobs", json=spec).json()["id"]
    check(document, paths["/v1/jobs/{job}"]["get"], client.get(f"/v1/jobs/{job}"))
    for verb in ("cancel", "retry", "cancel"):
        answer = client.post(f"/v1/jobs/{job}/{verb}")
        check(document, paths[f"/v1/jobs/{{job}}/{verb}"]["post"], answer)
    events = client.get(f"/v1/jobs/{job}/events")
    check(document, paths["/v1/jobs/{job}/events"]["get"], events)
    last = json.loads(events.text.rstrip().rpartition("data: ")[2])
    assert last["state"] == "cancelled"
    check(document, paths["/v1/jobs/{job}"]["delete"], client.delete(f"/v1/jobs/{job}"))


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job when it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        view = client.get(f"/v1/jobs/{job}").json()
        if view["state"] in ("done", "failed", "cancelled"):
            return view
        time.sleep(0.5)
    raise AssertionError(f"not ended after {PATIENCE_S} s: {view}")
