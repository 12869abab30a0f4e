"""Fifty requests at once, each answered as if it were alone."""

import asyncio
import random
from typing import Any

import httpx
import numpy as np
import pytest

from app.contract.live import SteerEvent
from app.contract.steering import Intervention
from tests.live.process import LiveProcess
from tests.live.reference import Reference, by_bridge, check_same, draw_edge, uniform_draw
from tests.live.world import TEXTS, World, entry
from worker.models import vocabulary
from worker.tokens import encode_text

SAES = ("1-post", "1-z", "1-pre", "1-attn", "1-act", "1-standard", "1-topk", "1-mlp")
METHODS = ("add", "clamp", "ablate", "orthogonal", "cap")
Request = tuple[str, dict[str, Any]]


def steer_request(world: World, chosen: random.Random, i: int) -> Request:
    interventions = [
        entry(
            sae=chosen.choice(SAES),
            feature=chosen.randrange(48),
            amount=chosen.choice([3.0, -2.0]),
            method=METHODS[(i + n) % 5],
            positions=chosen.choice(["all", "prompt", "generated"]),
        ).model_dump()
        for n in range(i % 3)
    ]
    sampling = {"temperature": 1.3, "top_p": 0.85, "top_k": 50, "seed": i} if i % 2 else {}
    body = {
        "model": world.id,
        "prompt": chosen.choice(TEXTS),
        "interventions": interventions,
        "max_new_tokens": 4 + i % 9,
        "baseline": i % 4 == 0,
        "stream": i % 5 == 1,
        "exact": i == 13,
    }
    return "/steer", body | sampling


def capture_request(world: World, chosen: random.Random, i: int) -> Request:
    saes = chosen.sample(SAES, 2)
    features = {saes[0]: chosen.sample(range(48), 1 + i % 3)} if i % 2 else {}
    texts = [chosen.choice(TEXTS) for _ in range(1 + i % 4)]
    return "/activations", {
        "model": world.id,
        "saes": saes,
        "texts": texts,
        "features": features,
        "top_k": 1 + i % 6,
    }


@pytest.mark.parametrize("name", ["world", "llama"])
def test_fifty_at_once_equal_one_at_a_time(
    live: LiveProcess, name: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(name)
    chosen = random.Random(7)
    makers = [steer_request if i % 5 < 3 else capture_request for i in range(50)]
    requests = [maker(world, chosen, i) for i, maker in enumerate(makers)]
    answers = asyncio.run(_send_all(live, requests))
    reference = by_bridge(world)
    for (path, body), answer in zip(requests, answers, strict=True):
        if path == "/activations":
            _same_values(answer, live.post(path, body))
        else:
            _check_steered(reference, body, answer)
    assert live.health()["running"] == 0


async def _send_all(live: LiveProcess, requests: list[Request]) -> list[Any]:
    headers = dict(live.client.headers)
    url = live.settings.live_url
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as client:
        return await asyncio.gather(*(_send(client, *request) for request in requests))


async def _send(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        return response.json()
    last = SteerEvent.model_validate_json(response.content.splitlines()[-1])
    assert last.done is not None
    return last.done.model_dump()


def _same_values(ours: Any, alone: Any) -> None:
    for result, right in zip(ours["results"], alone["results"], strict=True):
        assert result["tokens"] == right["tokens"]
        for sae, values in right["saes"].items():
            numbers = [_numbers(result["saes"][sae]), _numbers(values)]
            assert np.allclose(*numbers, rtol=1e-5, atol=1e-5)


def _numbers(values: Any) -> list[float]:
    if "features" in values:
        return [v for _, column in sorted(values["features"].items()) for v in column]
    return [number for token in values["top"] for f in token for number in f.values()]


def _check_steered(reference: Reference, body: dict[str, Any], answer: Any) -> None:
    model = reference.world.model
    show = vocabulary(model).display.__getitem__
    prompt = encode_text(model, body["prompt"])
    steering = [Intervention.model_validate(e) for e in body["interventions"]]
    for entries, name in ((steering, "steered"), ([], "baseline")):
        if answer[name] is None:
            assert name == "baseline" and not body["baseline"]
            continue
        draw = edge = None
        if "seed" in body:
            settings = body["seed"], body["temperature"], body["top_p"], body["top_k"]
            draw, edge = uniform_draw(*settings), draw_edge(*settings)
        ours = answer[name]["tokens"]
        theirs = reference.generate(prompt, entries, len(ours), draw)
        check_same(reference, prompt, entries, ours, theirs, edge, show)
        assert len(ours) == body["max_new_tokens"] or answer[name]["finish_reason"] == "stop"
