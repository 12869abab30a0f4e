"""Somebody's own model and texts, from files to a steered answer, through the real processes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.conftest import on_sqlite
from tests.flow.service import Service

pytestmark = [
    pytest.mark.timeout(1200),
    on_sqlite,
]
MODEL, SAE, HOOK = "stories260k", "2-stories-topk", "blocks.2.hook_resid_post"
CORPUS = {"path": "stories.jsonl"}


@pytest.fixture(scope="module")
def own(service: Service, shared_data: Path) -> Iterator[httpx.Client]:
    """A client of a service in whose folder are a model and a corpus."""
    assert service.cwd
    shutil.copytree(shared_data / "models" / "stories260K", service.cwd / "stories260K")
    shutil.copy(shared_data / "corpora" / "tinystories-1000.jsonl", service.cwd / "stories.jsonl")
    with httpx.Client(base_url=service.url, timeout=120) as client:
        yield client


def run_job(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Submit a job, watch its events to the end, return its last state."""
    submitted = client.post("/v1/jobs", json=spec)
    assert submitted.status_code == 202, submitted.text
    seen: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/jobs/{submitted.json()['id']}/events", timeout=900) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                seen.append(json.loads(line.removeprefix("data:")))
    assert seen[-1]["state"] == "done", seen[-1]
    assert [view["progress"] for view in seen] == sorted(view["progress"] for view in seen)
    return seen[-1]


@pytest.fixture(scope="module")
def trained(own: httpx.Client) -> dict[str, Any]:
    """The train job's last state; model loaded, SAE trained and its evidence precomputed."""
    run_job(own, {"kind": "load", "model": MODEL, "path": "stories260K"})
    job = run_job(
        own,
        {
            "kind": "train",
            "model": MODEL,
            "sae": SAE,
            "hook_name": HOOK,
            "corpus": CORPUS,
            "architecture": "topk",
            "d_sae": 512,
            "k": 16,
            "training_tokens": 200_000,
            "context_size": 128,
        },
    )
    run_job(
        own,
        {
            "kind": "precompute",
            "model": MODEL,
            "saes": [SAE],
            "corpus": CORPUS,
            "context_size": 128,
        },
    )
    return job


def strongest(client: httpx.Client) -> dict[str, Any]:
    """The page of the feature with the largest activation."""
    listed = client.get(
        f"/v1/models/{MODEL}/saes/{SAE}/features",
        params={"sort": "max_activation", "order": "desc", "limit": 1},
    ).json()
    return client.get(
        f"/v1/models/{MODEL}/saes/{SAE}/features/{listed['items'][0]['index']}"
    ).json()


def test_training_explains_the_residual_stream(trained: dict[str, Any], own: httpx.Client) -> None:
    sae = own.get(f"/v1/models/{MODEL}/saes/{SAE}").json()
    assert sae["status"] == "ready" and sae["d_in"] == 64 and sae["d_sae"] == 512
    assert sae["evaluation"]["explained_variance"] > 0.7
    assert sae["evaluation"]["ce_loss_score"] > 0.7
    curve = trained["result"]["curve"]
    assert curve["tokens"][-1] == 198_656 and len(curve["tokens"]) <= 100
    picture = own.get(f"/v1/jobs/{trained['id']}/curve.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert f"{curve['metrics']['l0'][-1]:.4g}</text>" in picture.text
    assert sae["evaluation"]["l0"] == pytest.approx(16, abs=1)


def test_a_live_query_gives_the_stored_example_again(
    trained: dict[str, Any], own: httpx.Client
) -> None:
    feature = strongest(own)
    example = next(
        example
        for band in feature["bands"]
        for example in band["examples"]
        if example["offset"] == 0 and example["tokens"][1].startswith(" ")
    )
    text = example["text"].removeprefix("<s>").strip()
    answer = own.post(
        "/v1/activations",
        json={
            "model": MODEL,
            "saes": [SAE],
            "texts": [text],
            "features": {SAE: [feature["index"]]},
        },
    ).json()["results"][0]
    live = answer["saes"][SAE]["features"][str(feature["index"])]
    assert answer["tokens"][: example["peak"] + 1] == example["tokens"][: example["peak"] + 1]
    assert live[example["peak"]] == pytest.approx(example["max"], rel=1e-4)


def test_ablating_and_adding_a_feature_does_what_it_says(
    trained: dict[str, Any], own: httpx.Client
) -> None:
    index = strongest(own)["index"]

    def steer(**entry: Any) -> dict[str, Any]:
        answer = own.post(
            "/v1/steer",
            json={
                "model": MODEL,
                "prompt": "Once upon a time",
                "max_new_tokens": 20,
                "steering": [{"sae": SAE, "feature": index, **entry}],
            },
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    nothing = steer(strength=0.0)
    assert nothing["steered"]["text"] == nothing["baseline"]["text"]
    assert nothing["baseline"]["text"].startswith(",")
    strong = steer(strength=4.0)
    assert strong["steered"]["text"] != strong["baseline"]["text"]
    assert strong["baseline"] == nothing["baseline"]
