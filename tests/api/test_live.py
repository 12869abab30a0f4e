"""Activations and steering through the API process and the real live worker."""

import json
from typing import Any

import httpx
import pytest
import torch

from app.contract.live import ActivationsAnswer, SteerAnswer, SweepAnswer
from app.store import read
from tests.api.server import ServerProcess, events_of
from tests.api.test_problems import problem_of
from tests.live.process import LiveProcess
from tests.live.world import World

TEXTS = ["The old keeper climbed the stairs.", "Two cups of flour 🙂"]


@pytest.fixture
def ask(server: ServerProcess, world: World) -> httpx.Client:
    return server.client


def exact(shape: Any, answer: httpx.Response) -> Any:
    """The answer's JSON, which holds what `shape` says; null fields may be left out."""
    assert answer.status_code == 200, answer.text
    parsed = shape.model_validate_json(answer.content, strict=True)
    given, told = answer.json(), parsed.model_dump(mode="json")
    assert without_nulls(given) == without_nulls(told)
    return given


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_activations(ask: httpx.Client, world: World, live: LiveProcess) -> None:
    body = {
        "model": world.id,
        "saes": ["1-post", "1-mlp"],
        "texts": TEXTS,
        "features": {"1-mlp": [3, 0]},
        "top_k": 2,
    }
    results = exact(ActivationsAnswer, ask.post("/v1/activations", json=body))["results"]
    assert len(results) == 2
    assert "".join(results[0]["tokens"]).endswith(TEXTS[0])
    for result in results:
        top, features = result["saes"]["1-post"]["top"], result["saes"]["1-mlp"]["features"]
        assert len(top) == len(result["tokens"])
        assert all(len(ranked) <= 2 for ranked in top)
        assert any(top)
        assert list(features) == ["3", "0"]
        assert all(len(values) == len(result["tokens"]) for values in features.values())
    assert json.loads(live.client.post("/activations", json=body).content)["results"] == results


def test_neurons_need_no_registration(ask: httpx.Client, world: World) -> None:
    body = {"model": world.id, "saes": ["2-mlp"], "texts": ["x"]}
    assert exact(ActivationsAnswer, ask.post("/v1/activations", json=body))


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"model": "gpt5"}, 404, "There is no model 'gpt5'"),
        ({"saes": ["9-res"]}, 404, "has no SAE '9-res'"),
        ({"features": {"1-mid": [1]}}, 422, "1-mid, which is not in saes"),
        ({"features": {"1-post": [96]}}, 422, "96"),
        ({"texts": ["word " * 200]}, 422, "64 at most"),
    ],
)
def test_what_the_live_worker_refuses(
    ask: httpx.Client, world: World, change: dict[str, Any], status: int, sentence: str
) -> None:
    body = {"model": world.id, "saes": ["1-post"], "texts": ["x"]} | change
    assert sentence in problem_of(ask.post("/v1/activations", json=body), status)["detail"]


def steer(ask: httpx.Client, world: World, entry: dict[str, Any], **body: Any) -> Any:
    """The answer with one steering entry."""
    body = {"model": world.id, "prompt": "The old", "max_new_tokens": 8, "steering": [entry]} | body
    return exact(SteerAnswer, ask.post("/v1/steer", json=body))


ENTRY = {"sae": "1-post", "feature": 5, "strength": 3.0}


def test_steer_beside_the_baseline(ask: httpx.Client, world: World) -> None:
    answer = steer(ask, world, ENTRY | {"unit": "raw", "strength": 60.0})
    assert len(answer["steered"]["tokens"]) == 8
    assert answer["steered"]["finish_reason"] == "length"
    assert answer["baseline"]["text"] != answer["steered"]["text"]
    assert answer["usage"]["completion_tokens"] == 16
    alone = steer(ask, world, ENTRY | {"unit": "raw", "strength": 60.0}, baseline=False)
    assert alone["baseline"] is None
    assert alone["steered"]["tokens"] == answer["steered"]["tokens"]
    plain = steer(ask, world, ENTRY, steering=[])
    assert plain["steered"]["tokens"] == plain["baseline"]["tokens"]


def test_a_report_comes_with_the_steered_text(ask: httpx.Client, world: World) -> None:
    asked = {"sae": "1-post", "feature": 5, "unit": "raw", "strength": 6.0}
    answer = steer(ask, world, asked, report=True)
    assert "report" not in answer["baseline"]
    report = answer["steered"]["report"]
    n = len(report["tokens"])
    assert report["tokens"][-8:] == answer["steered"]["tokens"] and len(report["kl"]) == 8
    (site,), (feature,) = report["sites"], report["features"]
    assert site["hook"] == "blocks.1.hook_resid_post"
    assert (feature["entry"], feature["sae"], feature["feature"]) == (0, "1-post", 5)
    lists = [*(site[name] for name in ("norm_before", "norm_after", "angle")),
             feature["before"], feature["after"]]  # fmt: skip
    assert all(len(one) == n for one in lists)
    assert max(site["angle"]) > 1 and max(report["kl"]) > 0
    with ask.stream("POST", "/v1/steer", json={
        "model": world.id, "prompt": "The old", "max_new_tokens": 8, "steering": [asked],
        "report": True, "stream": True,
    }) as streamed:  # fmt: skip
        *_, (last, done) = events_of(streamed)
    assert last == "done" and json.loads(done)["steered"]["report"]["kl"] == pytest.approx(
        report["kl"], rel=1e-3, abs=1e-5
    )


def test_the_unit_is_the_features_own_maximum(
    ask: httpx.Client, world: World, live: LiveProcess
) -> None:
    maximum = read.max_activations(live.shelf, world.id, "1-post", [5])[5]
    assert maximum > 0
    for method in ("add", "clamp", "cap"):
        by_unit = steer(ask, world, ENTRY | {"method": method})
        raw = {"unit": "raw", "strength": 3.0 * maximum, "method": method}
        assert steer(ask, world, ENTRY | raw)["steered"] == by_unit["steered"]
    without_unit = {"method": "orthogonal", "unit": "raw"}
    turned = steer(ask, world, ENTRY | {"method": "orthogonal"})
    assert turned["steered"] == steer(ask, world, ENTRY | without_unit)["steered"]


def test_units_count_for_more_than_nothing(ask: httpx.Client, world: World) -> None:
    weak, strong = (
        steer(ask, world, ENTRY | {"strength": strength})["steered"]["tokens"]
        for strength in (0.0, 40.0)
    )
    assert weak != strong


def test_a_condition_counts_in_its_features_own_maximum(
    ask: httpx.Client, world: World, live: LiveProcess
) -> None:
    strong = ENTRY | {"unit": "raw", "strength": 60.0}
    maximum = read.max_activations(live.shelf, world.id, "1-post", [5])[5]
    never = {"sae": "1-post", "feature": 5, "above": 50.0}
    answer = steer(ask, world, strong | {"when": never})
    assert answer["steered"] == answer["baseline"]
    raw = never | {"above": 50.0 * maximum, "unit": "raw"}
    assert steer(ask, world, strong | {"when": raw})["steered"] == answer["baseline"]
    always = {"sae": "0-mlp", "feature": 3, "above": -1e6, "unit": "raw"}
    gated = steer(ask, world, strong | {"when": always})
    assert gated["steered"] == steer(ask, world, strong)["steered"] != gated["baseline"]


def test_a_vector_is_counted_raw(ask: httpx.Client, world: World) -> None:
    hook = "blocks.1.hook_resid_post"
    direction = world.dictionary("1-post").directions(torch.tensor([5]))[0].tolist()
    entry = {"hook": hook, "vector": direction, "strength": 60.0}
    by_feature = steer(ask, world, ENTRY | {"unit": "raw", "strength": 60.0})
    assert steer(ask, world, entry)["steered"] == by_feature["steered"]
    assert steer(ask, world, entry | {"unit": "raw"})["steered"] == by_feature["steered"]


def test_neurons_can_be_steered_raw(ask: httpx.Client, world: World) -> None:
    entry = {"sae": "1-mlp", "feature": 3, "unit": "raw", "strength": 60.0}
    answer = steer(ask, world, entry)
    assert answer["steered"]["tokens"] != answer["baseline"]["tokens"]


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"model": "gpt5", "steering": []}, 404, "There is no model 'gpt5'"),
        ({"prompt": None, "messages": [{"role": "user", "content": "x"}]}, 422, "no chat template"),
        ({"max_new_tokens": 1_000}, 422, "together they may be"),
        ({"steering": [ENTRY | {"when": {"sae": "1-post", "feature": 96}}]}, 422, "0 to 95"),
        ({"steering": [ENTRY | {"when": {"sae": "9-no", "feature": 1}}]}, 404, "no SAE '9-no'"),
        (
            {"steering": [ENTRY | {"when": {"sae": "2-mlp", "feature": 1}}]},
            422,
            "reaches only after",
        ),
        ({"steering": [{"hook": "nowhere", "vector": [1.0]}]}, 422, "nowhere"),
        (
            {"steering": [{"hook": "blocks.1.hook_resid_post", "vector": [1.0]}]},
            422,
            "the vector has 1 numbers, blocks.1.hook_resid_post has 32",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_steered(
    ask: httpx.Client,
    world: World,
    change: dict[str, Any],
    status: int,
    sentence: str,
    stream: bool,
) -> None:
    body = {"model": world.id, "prompt": "x", "max_new_tokens": 4, "stream": stream} | change
    body = {name: value for name, value in body.items() if value is not None}
    assert sentence in problem_of(ask.post("/v1/steer", json=body), status)["detail"]


def test_a_stream_adds_up_to_the_answer(ask: httpx.Client, world: World) -> None:
    body = {"model": world.id, "prompt": "The old", "max_new_tokens": 12, "steering": [ENTRY]}
    whole = exact(SteerAnswer, ask.post("/v1/steer", json=body))
    with ask.stream("POST", "/v1/steer", json=body | {"stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, (last, done) = events_of(answer)
    assert {name for name, _ in deltas} == {"delta"}
    assert last == "done"
    assert SteerAnswer.model_validate_json(done, strict=True)
    final = json.loads(done)
    for name in ("steered", "baseline"):
        parts = [json.loads(data) for _, data in deltas]
        own = [part for part in parts if part["answer"] == name]
        assert set(parts[0]) == {"answer", "text", "tokens"}
        assert "".join(part["text"] for part in own) == final[name]["text"]
        assert [token for part in own for token in part["tokens"]] == final[name]["tokens"]
        assert final[name] == whole[name]


def test_a_sweep_is_an_answer_for_each_strength(ask: httpx.Client, world: World) -> None:
    entry = {"sae": "1-post", "feature": 5, "unit": "raw", "strength": 2.0}
    body = {"model": world.id, "prompt": "The old", "max_new_tokens": 8, "steering": [entry],
            "temperature": 0.9, "seed": 4}  # fmt: skip
    strengths = [0, 1, 30, -30]
    answer = ask.post("/v1/steer/sweep", json=body | {"strengths": strengths})
    rows = exact(SweepAnswer, answer)["rows"]
    assert [row["strength"] for row in rows] == strengths
    for row in rows:
        steering = [entry | {"strength": 2.0 * row["strength"]}]
        alone = ask.post(
            "/v1/steer", json=body | {"steering": steering, "report": True, "baseline": False}
        ).json()["steered"]
        assert (row["text"], row["tokens"]) == (alone["text"], alone["tokens"])
        report, (feature,) = alone["report"], row["features"]
        assert row["kl"] == pytest.approx(sum(report["kl"]) / 8, rel=1e-3, abs=1e-6)
        assert row["perplexity"] == pytest.approx(report["perplexity"], rel=1e-3)
        assert row["unsteered_perplexity"] == pytest.approx(
            report["unsteered_perplexity"], rel=1e-3
        )
        after = report["features"][0]["after"][-8:]
        assert feature["after"] == pytest.approx(sum(after) / 8, rel=1e-3, abs=1e-5)
        assert (feature["entry"], feature["sae"], feature["feature"]) == (0, "1-post", 5)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[2]["kl"] > rows[1]["kl"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strengths": []}, "strengths"),
        ({"strengths": [1.0] * 33}, "strengths"),
        ({"strengths": [1e39]}, "body.strengths.0 is 1e+39"),
        (
            {"strengths": [1.0, -1e308], "steering": [ENTRY | {"unit": "raw", "strength": -1e5}]},
            "numbers hold; allowed: up to 3.4e+33 either way",
        ),
        (
            {
                "strengths": [0, 3e38],
                "max_new_tokens": 1,
                "steering": [
                    {"sae": "1-post", "feature": 5, "unit": "raw", "positions": "generated"}
                ],
            },
            "smaller strengths",
        ),
        (
            {"strengths": [1e308], "steering": [ENTRY | {"unit": "raw", "strength": 1e10}]},
            "32-bit",
        ),
        ({"steering": []}, "body.steering: list should have at least 1 item"),
        ({"max_new_tokens": 1_000}, "together they may be"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_what_cannot_be_swept(
    ask: httpx.Client, world: World, change: dict[str, Any], sentence: str
) -> None:
    body = {"model": world.id, "prompt": "x", "max_new_tokens": 4, "strengths": [1.0],
            "steering": [ENTRY | {"unit": "raw"}]} | change  # fmt: skip
    assert sentence in str(problem_of(ask.post("/v1/steer/sweep", json=body), 422))


def test_a_report_beyond_32_bit_numbers_is_a_problem_of_the_request(
    ask: httpx.Client, world: World
) -> None:
    """The answer's only token is processed by nothing but its report."""
    entry = {"sae": "1-standard", "feature": 7, "unit": "raw", "positions": "generated"}
    body = {"model": world.id, "prompt": "The old", "max_new_tokens": 1}
    for path, asked in (
        ("/v1/steer/sweep", {"steering": [entry], "strengths": [3e38]}),
        ("/v1/steer", {"steering": [entry | {"strength": 3e38}], "report": True, "stream": True}),
        ("/v1/steer", {"steering": [entry | {"strength": 3e38}], "report": True}),
    ):
        answer = ask.post(path, json=body | asked)
        assert answer.status_code == (200 if asked.get("stream") else 422), answer.text
        assert "no longer finite" in answer.text, answer.text


def test_what_is_wrong_with_an_entry_is_said_by_its_place_in_the_request(
    ask: httpx.Client, world: World
) -> None:
    wrong = {"hook": "blocks.1.hook_resid_post", "vector": [1.0]}
    body = {"model": world.id, "prompt": "x", "steering": [wrong]}
    assert "steering[0]" in problem_of(ask.post("/v1/steer", json=body), 422)["detail"]
