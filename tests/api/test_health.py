"""Alive, ready, metrics."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.api.health import Readiness
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.settings import Settings
from app.store import write
from app.store.engine import Shelf, open_shelf
from tests.api.conftest import NOBODY, client_of
from tests.api.test_lookups import checked
from tests.api.test_problems import problem_of
from tests.live.process import LiveProcess
from tests.store import builders


@pytest.fixture
def away(tmp_path: Path) -> TestClient:
    """An application whose database and live worker are not there."""
    url = "postgresql://someone:secret@127.0.0.1:9/x"
    return client_of(Settings(data_dir=tmp_path, database_url=url, live_url=NOBODY))


def test_alive_whatever_is_missing(away: TestClient) -> None:
    answer = away.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_not_ready_part_by_part(away: TestClient) -> None:
    answer = away.get("/readyz")
    parts = problem_of(answer, 503)["parts"]
    assert [(name, part["ready"]) for name, part in parts.items()] == [
        ("database", False),
        ("live", False),
        ("evidence", False),
    ]
    assert "secret" not in answer.text
    assert "saescope worker live" in parts["live"]["detail"]


@pytest.fixture
def empty(settings: Settings) -> Iterator[Shelf]:
    """An empty shelf."""
    shelf = open_shelf(settings.shelf_url)
    yield shelf
    shelf.close()


@pytest.fixture
def running(settings: Settings, live: LiveProcess) -> Iterator[TestClient]:
    """An application whose live worker answers."""
    settings.token_file.write_text(live.settings.token_file.read_text())
    url = live.settings.live_url
    with client_of(settings.model_copy(update={"live_url": url})) as client:
        yield client


def test_ready_when_the_bundled_evidence_is_there(running: TestClient, empty: Shelf) -> None:
    def waits_for() -> str:
        return problem_of(running.get("/readyz"), 503)["detail"]

    assert "database: No model is registered yet. `saescope up` registers" in waits_for()
    bundled = builders.model_record(BUNDLED_MODEL)
    write.put_model(empty, bundled, builders.vocabulary())
    assert waits_for() == f"evidence: No SAE of {BUNDLED_MODEL} is registered yet."
    first = builders.sae_record(BUNDLED_SAES[0], model_id=BUNDLED_MODEL)
    for number in range(101):  # a page holds a hundred
        write.put_sae(empty, replace(first, id=f"1-{number}", fingerprint=f"{number:064}"))
    write.put_sae(empty, first)
    expected = f"evidence: The evidence of {BUNDLED_SAES[0]} is not committed yet."
    assert waits_for() == expected
    tokens = builders.corpus()
    write.put_corpus(empty, tokens.record, tokens.flat, tokens.offsets)
    write.begin_run(empty, BUNDLED_MODEL, first.id, tokens.record.id, {}, "run-1")
    write.put_features(empty, "run-1", builders.batch(tokens, 0, 64))
    assert waits_for() == expected
    write.finish_runs(empty, {"run-1": {}})
    write.put_sae(empty, replace(first, id="2-mine", fingerprint="b" * 64))
    body = checked(Readiness, running.get("/readyz"))
    assert all(part["ready"] for part in body.values())


def test_ready_without_the_bundled_model(running: TestClient, shelf: Shelf) -> None:
    assert checked(Readiness, running.get("/readyz"))["evidence"]["ready"]


def test_not_ready_when_the_live_worker_is_away(client: TestClient) -> None:
    parts = problem_of(client.get("/readyz"), 503)["parts"]
    assert [part["ready"] for part in parts.values()] == [True, False, True]


def value(metrics: str, line: str) -> float:
    found = re.search(f"^{re.escape(line)} (.*)$", metrics, re.MULTILINE)
    assert found, f"{line} is not in\n{metrics}"
    return float(found[1])


def test_metrics_count_requests_by_route(stocked: Settings) -> None:
    client = client_of(stocked)
    saes = "/v1/models/tiny/saes"
    for path in ("/v1/models/tiny", "/v1/models/none", "/v1/models/none", "/nothing"):
        client.get(path)
    for feature in ("0-res/features/3", "0-res/features/64", "0-res/features/x"):
        client.get(f"{saes}/{feature}")
    client.put(f"{saes}/0-res/features/3")
    client.get("/v1/models/tiny", headers={"Host": "evil.example"})
    client.request("BREW", "/v1/models")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    text = answer.text
    route = 'route="/v1/models/{model}"'
    assert value(text, f'saescope_requests_total{{method="GET",{route},status="200"}}') == 1
    assert value(text, f'saescope_requests_total{{method="GET",{route},status="404"}}') == 2
    unknown = 'method="GET",route="unknown"'
    assert value(text, f'saescope_requests_total{{{unknown},status="404"}}') == 1
    assert value(text, f'saescope_requests_total{{{unknown},status="400"}}') == 1
    brewed = 'method="other",route="/v1/models",status="405"'
    assert value(text, f"saescope_requests_total{{{brewed}}}") == 1
    assert value(text, f'saescope_request_seconds_count{{method="GET",{route}}}') == 3
    looked_up = 'route="/v1/models/{model}/saes/{sae}/features/{index}"'
    for method, status in (("GET", 200), ("GET", 404), ("GET", 422), ("PUT", 405)):
        labels = f'method="{method}",{looked_up},status="{status}"'
        assert value(text, f"saescope_requests_total{{{labels}}}") == 1
    assert value(text, "process_resident_memory_bytes") > 0
    assert value(text, "saescope_live_up") == 0


def test_metrics_tell_of_the_live_worker(running: TestClient) -> None:
    text = running.get("/metrics").text
    assert value(text, "saescope_live_up") == 1
    assert value(text, "saescope_live_running") == 0
    assert value(text, "saescope_live_requests") == 0
