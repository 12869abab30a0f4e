"""Calibrated strengths, against answers asked for one by one, and where they are kept."""

import math
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.api.calibration import Calibration
from app.errors import Gone
from app.store import calibration, lookup, write
from app.store.engine import Shelf
from tests.api.server import ServerProcess
from tests.api.test_live import exact
from tests.api.test_problems import problem_of
from tests.live.world import World
from tests.store import builders

BUDGET = 1.5


@pytest.fixture(scope="module")
def ask(server: ServerProcess) -> httpx.Client:
    return server.client


def asked(world: World, **changes: Any) -> dict[str, Any]:
    return {"model": world.id, "sae": "1-post", "feature": 5, "strengths": [1, 4]} | changes


def test_it_is_what_single_answers_say(ask: httpx.Client, world: World) -> None:
    body = asked(world, perplexity_budget=BUDGET)
    found = exact(Calibration, ask.post("/v1/steer/calibrate", json=body))
    assert len(found["prompts"]) == calibration.PROMPTS
    unsteered = perplexity(ask, world, found["prompts"], None)
    assert found["unsteered_perplexity"] == pytest.approx(unsteered, rel=1e-4)
    for row, strength in zip(found["rows"], body["strengths"], strict=True):
        alone = perplexity(ask, world, found["prompts"], strength)
        assert row["strength"] == strength
        assert row["perplexity"] == pytest.approx(alone, rel=1e-4)
        assert row["ratio"] == pytest.approx(alone / unsteered, rel=1e-4)
    assert found["rows"][1]["kl"] > found["rows"][0]["kl"] > 0


def perplexity(
    ask: httpx.Client, world: World, prompts: list[str], strength: float | None
) -> float:
    """Of answers that were asked for one after another."""
    entry = {"sae": "1-post", "feature": 5, "strength": strength}
    steering = [] if strength is None else [entry]
    nats, count = 0.0, 0
    for seed, prompt in enumerate(prompts):
        body = {"model": world.id, "prompt": prompt, "steering": steering, "max_new_tokens": 32,
                "temperature": 1, "seed": seed, "baseline": False, "report": True}  # fmt: skip
        report = ask.post("/v1/steer", json=body).json()["steered"]["report"]
        nats += len(report["kl"]) * math.log(report["unsteered_perplexity"])
        count += len(report["kl"])
    return math.exp(nats / count)


def test_the_strength_is_the_last_before_one_that_breaks(ask: httpx.Client, world: World) -> None:
    body = asked(world, strengths=[-0.5, -2, -8, -32])
    ratios = [row["ratio"] for row in ask.post("/v1/steer/calibrate", json=body).json()["rows"]]
    for budget in (1.0001, *(1.0001 * ratio for ratio in ratios if ratio > 1), 1_000):
        answer = ask.post("/v1/steer/calibrate", json=body | {"perplexity_budget": budget})
        held = [ratio <= budget for ratio in ratios].index(False) if max(ratios) > budget else 4
        expected = body["strengths"][held - 1] if held else None
        assert answer.json()["strength"] == expected


def test_it_is_kept_with_the_feature(ask: httpx.Client, world: World) -> None:
    path = f"/v1/models/{world.id}/saes/1-post/features/7"
    before = ask.get(path)
    assert before.json()["calibration"] is None
    found = ask.post("/v1/steer/calibrate", json=asked(world, feature=7, method="clamp")).json()
    after = ask.get(path, headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert after.json() == before.json() | {"calibration": found}
    assert found["method"] == "clamp"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strengths": []}, "strengths"),
        ({"strengths": [0.0, 1.0]}, "away from 0"),
        ({"strengths": [1.0, -2.0]}, "away from 0"),
        ({"strengths": [2.0, 1.0]}, "away from 0"),
        ({"strengths": [1.0] * 33}, "strengths"),
        ({"strengths": [1e38]}, "no longer finite"),
        ({"perplexity_budget": 1.0}, "perplexity_budget"),
        ({"method": "cap"}, "method"),
        ({"feature": 10**6}, "feature"),
        ({"sae": "1-pre"}, "no evidence"),
        ({"prompt": "mine"}, "prompt"),
    ],
)
def test_what_cannot_be_calibrated(
    ask: httpx.Client, world: World, changes: dict[str, Any], sentence: str
) -> None:
    answer = ask.post("/v1/steer/calibrate", json=asked(world, **changes))
    assert sentence in str(problem_of(answer, 422))


def test_unknown_ones(ask: httpx.Client, world: World) -> None:
    for changes in ({"model": "nobody"}, {"sae": "9-post"}):
        problem_of(ask.post("/v1/steer/calibrate", json=asked(world, **changes)), 404)


def test_without_a_live_worker_nothing_is_kept(client: TestClient) -> None:
    body = {"model": "tiny", "sae": "0-res", "feature": 3}
    assert client.post("/v1/steer/calibrate", json=body).status_code == 503
    path = "/v1/models/tiny/saes/0-res/features/3"
    assert client.get(path).json()["calibration"] is None


def test_new_evidence_ends_it(shelf: Shelf) -> None:
    run_id, prompts = calibration.prompts(shelf, "tiny", "0-res")
    assert calibration.prompts(shelf, "tiny", "0-res") == (run_id, prompts)
    calibration.put(shelf, "tiny", "0-res", 3, run_id, {"strength": 2})
    assert lookup.feature(shelf, "tiny", "0-res", 3).calibration == '{"strength":2}'
    tokens = builders.corpus()
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "next")
    write.put_features(shelf, "next", builders.batch(tokens, 0, 64))
    write.finish_runs(shelf, {"next": {}})
    assert lookup.feature(shelf, "tiny", "0-res", 3).calibration is None
    with pytest.raises(Gone, match="computed anew"):
        calibration.put(shelf, "tiny", "0-res", 3, run_id, {"strength": 2})
