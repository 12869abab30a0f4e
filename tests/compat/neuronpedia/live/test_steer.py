"""Steering by Neuronpedia's own client and by plain requests: the texts are those of `/v1/steer`."""

import json
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from neuronpedia.np_feature import SteerFeature
from neuronpedia.np_vector import NPVector
from neuronpedia.requests.steer_request import SteerChatRequest, SteerCompletionRequest

from app.store import vectors
from tests.live.process import LiveProcess
from tests.live.world import SITES, World
from tests.worker.tiny import D_MODEL

PROMPT = "The old keeper climbed"
VECTOR = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(9)).double().numpy()
METHODS = {"SIMPLE_ADDITIVE": "add", "ORTHOGONAL_DECOMP": "orthogonal", "PROJECTION_CAP": "cap"}
CHAT = [{"role": "user", "content": "Who is there?"}]


def asked(world: World, **fields: Any) -> dict[str, Any]:
    feature = {"modelId": world.id, "layer": "1-topk", "index": 7, "strength": 3}
    return {
        "modelId": world.id,
        "prompt": PROMPT,
        "features": [feature],
        "temperature": 0,
        "n_tokens": 12,
        "freq_penalty": 0,
        "seed": 16,
        "strength_multiplier": 2,
        **fields,
    }


def own(api: httpx.Client, world: World, *entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The answers of `/v1/steer`."""
    body = {"model": world.id, "prompt": PROMPT, "max_new_tokens": 12, "seed": 16, **fields}
    told = api.post("/v1/steer", json={**body, "steering": list(entries)})
    assert told.status_code == 200, told.text
    return told.json()


def posted(api: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    told = api.post(path, json=body)
    assert told.status_code == 200, told.text
    return told.json()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_both_texts_are_those_of_our_own_route(
    api: httpx.Client, world: World, method: str, temperature: float
) -> None:
    told = posted(api, "/api/steer/", asked(world, steer_method=method, temperature=temperature))
    entry = {"sae": "1-topk", "feature": 7, "strength": 6, "unit": "raw", "method": METHODS[method]}
    right = own(api, world, entry, temperature=temperature)
    assert told["STEERED"] == right["steered"]["text"]
    assert told["DEFAULT"] == right["baseline"]["text"]
    assert told["id"] is told["shareUrl"] is told["limit"] is None
    assert [one["token"] for one in told["steeredLogProbs"]] == right["steered"]["tokens"]
    assert [one["token"] for one in told["defaultLogProbs"]] == right["baseline"]["tokens"]


def test_additive_steering_shows(api: httpx.Client, world: World) -> None:
    told = posted(api, "/api/steer", asked(world, strength_multiplier=10))
    assert told["STEERED"] != told["DEFAULT"]


def test_log_probabilities_are_those_of_each_answer(api: httpx.Client, world: World) -> None:
    told = posted(api, "/api/steer", asked(world, strength_multiplier=10))
    for name in ("steeredLogProbs", "defaultLogProbs"):
        assert len(told[name]) == 12
        for one in told[name]:
            assert len(one["topLogprobs"]) == 5
            assert one["topLogprobs"][0] == {"token": one["token"], "logprob": one["logprob"]}
    assert told["steeredLogProbs"][0]["logprob"] != told["defaultLogProbs"][0]["logprob"]


def test_repetition_is_penalised(api: httpx.Client, world: World) -> None:
    plain = posted(api, "/api/steer", asked(world, n_tokens=50))
    penalised = posted(api, "/api/steer", asked(world, n_tokens=50, freq_penalty=2))

    def most(told: dict[str, Any]) -> int:
        tokens = [one["token"] for one in told["defaultLogProbs"]]
        return max(map(tokens.count, tokens))

    assert most(penalised) < most(plain)


def test_numbers_may_come_as_text(api: httpx.Client, world: World) -> None:
    body = asked(world, temperature=0.8, freq_penalty=-0.5)
    numbers = ("temperature", "n_tokens", "freq_penalty", "seed", "strength_multiplier")
    texts = {name: str(body[name]) for name in numbers}
    features = [one | {"index": "7", "strength": "3.0"} for one in body["features"]]
    told = posted(api, "/api/steer", body | texts | {"features": features})
    assert told == posted(api, "/api/steer", body)


def test_seeds_may_be_negative(api: httpx.Client, world: World) -> None:
    texts = [
        posted(api, "/api/steer", asked(world, seed=seed, temperature=1.5))["DEFAULT"]
        for seed in (-7, 7, -7)
    ]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("method", METHODS)
def test_vectors_steer(api: httpx.Client, live: LiveProcess, world: World, method: str) -> None:
    source = vectors.source_of(1, "post")
    made = vectors.new(live.shelf, "me", world.id, source, "x", SITES["post"], 10, VECTOR)
    feature = {"modelId": world.id, "layer": source, "index": str(made.number), "strength": 4}
    told = posted(api, "/api/steer", asked(world, features=[feature], steer_method=method))
    entry = {"hook": SITES["post"], "vector": VECTOR.tolist(), "strength": 8}
    right = own(api, world, {**entry, "method": METHODS[method]})
    assert told["STEERED"] == right["steered"]["text"]
    vector = NPVector("x", world.id, source, str(made.number), VECTOR.tolist(), SITES["post"], 4)
    client = SteerCompletionRequest().steer(
        world.id, [vector], PROMPT, temperature=0, n_tokens=12, strength_multiplier=2
    )
    greedy = asked(world, features=[feature], freq_penalty=2)
    assert client["STEERED"] == posted(api, "/api/steer", greedy)["STEERED"]


def test_the_official_client_steers_by_features(api: httpx.Client, world: World) -> None:
    feature = SteerFeature(world.id, "1-topk", 7, strength=3)
    told = SteerCompletionRequest().steer_features(world.id, [feature], PROMPT, n_tokens=12)
    same = asked(world, temperature=0.5, seed=42, strength_multiplier=4, freq_penalty=2)
    assert told == posted(api, "/api/steer", same)


def test_a_stream_ends_in_the_whole_answer(api: httpx.Client, world: World) -> None:
    body = asked(world, temperature=0.8)
    with api.stream("POST", "/api/steer", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    frames = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert frames[-1] == posted(api, "/api/steer", body)
    for before, after in pairwise(frames):
        assert after["STEERED"].startswith(before["STEERED"])
        assert after["DEFAULT"].startswith(before["DEFAULT"])


def test_without_features_there_is_one_answer(api: httpx.Client, world: World) -> None:
    told = posted(api, "/api/steer", asked(world, features=[]))
    assert told["STEERED"] is None and told["steeredLogProbs"] is None
    assert told["DEFAULT"] == own(api, world)["baseline"]["text"]


def chat(llama: World, **fields: Any) -> dict[str, Any]:
    body = asked(llama, steer_special_tokens=True, **fields)
    del body["prompt"]
    return {"defaultChatMessages": CHAT, "steeredChatMessages": CHAT, **body}


@pytest.mark.parametrize("special", [True, False])
def test_conversations_are_steered(api: httpx.Client, llama: World, special: bool) -> None:
    told = posted(api, "/api/steer-chat", chat(llama) | {"steer_special_tokens": special})
    entry = {"sae": "1-topk", "feature": 7, "strength": 6, "unit": "raw"}
    body = {"model": llama.id, "messages": CHAT, "max_new_tokens": 12}
    steering = [{**entry, "skip_special_tokens": not special}]
    right = posted(api, "/v1/steer", {**body, "steering": steering})
    for name, answer in (("STEERED", right["steered"]), ("DEFAULT", right["baseline"])):
        said = told[name]["chatTemplate"]
        assert said == [*CHAT, {"role": "assistant", "content": answer["text"]}]
        assert told[name]["raw"].endswith(f"<assistant>{answer['text']}")
        assert told[name]["raw"].count("Who is there?") == 1
        assert len(told[name]["logprobs"]) == len(answer["tokens"])
    assert told["settings"]["steer_special_tokens"] is special
    assert told["settings"]["n_tokens"] == 12


def test_conversations_may_differ(api: httpx.Client, llama: World) -> None:
    first = {"role": "user", "content": "x"}
    other = [first, {"role": "model", "content": "y"}, first]
    told = posted(api, "/api/steer-chat", chat(llama) | {"steeredChatMessages": other})
    assert told["STEERED"]["chatTemplate"][:3] == other
    assert told["STEERED"]["chatTemplate"][3]["role"] == "model"
    assert told["DEFAULT"]["chatTemplate"][:1] == CHAT
    client = SteerChatRequest().steer_features(
        llama.id,
        [SteerFeature(llama.id, "1-topk", 7, strength=3)],
        CHAT,
        other,
        temperature=0,
        n_tokens=12,
        freq_penalty=0,
        strength_multiplier=2,
    )
    assert client["STEERED"] == told["STEERED"] and client["DEFAULT"] == told["DEFAULT"]


def test_streamed_conversations_end_in_the_whole_answer(api: httpx.Client, llama: World) -> None:
    with api.stream("POST", "/api/steer-chat", json={**chat(llama), "stream": True}) as response:
        lines = [line for line in response.iter_lines() if line]
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last == posted(api, "/api/steer-chat", chat(llama))


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "long prompt": ("steer", {"prompt": "x" * 2_049}, 400, "at most 2048"),
    "hot": ("steer", {"temperature": 2.1}, 400, "at most 2"),
    "many tokens": ("steer", {"n_tokens": 257}, 400, "at most 256"),
    "no seed": ("steer", {"seed": None}, 400, "seed"),
    "strong": ("steer", {"strength_multiplier": 11}, 400, "at most 10"),
    "method": ("steer", {"steer_method": "x"}, 400, "SIMPLE_ADDITIVE"),
    "no SAE": ("steer", {"features": [{"layer": "9-none"}]}, 404, "9-none"),
    "no feature": ("steer", {"features": [{"index": 10**6}]}, 400, "1000000"),
    "another model's": ("steer", {"features": [{"modelId": "x"}]}, 400, "modelId is x"),
    "no vector": ("steer", {"features": [{"layer": "1-neuronpedia-resid-pre"}]}, 404, "no vector"),
    "not steerable": ("steer", {"features": [{"strength": 1e300}]}, 400, "32-bit"),
    "too strong": ("steer", {"features": [{"strength": 1e308}]}, 400, "32-bit"),
    "many": ("steer", {"features": [{}] * 33}, 400, "SAESCOPE_MAX_STEERING"),
    "no template": ("steer-chat", {}, 400, "chat template"),
    "axis": ("steer-chat", {"isAssistantAxis": True}, 400, "isAssistantAxis"),
    "no messages": ("steer-chat", {"defaultChatMessages": []}, 400, "defaultChatMessages"),
    "long": (
        "steer-chat",
        {"steeredChatMessages": [{"role": "user", "content": "x" * 2_049}]},
        400,
        "at most 2,048",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(
    api: httpx.Client, live: LiveProcess, world: World, case: str
) -> None:
    route, fields, status, says = REFUSED[case]
    body = asked(world) if route == "steer" else chat(world)
    plain = body["features"][0]
    body |= fields
    body["features"] = [plain | one for one in body["features"]]
    for stream in (False, True):
        told = api.post(f"/api/{route}", json={**body, "stream": stream})
        assert told.status_code == status, told.text
        assert told.json()["error"] == told.json()["message"]
        assert says in told.json()["error"]


def test_vectors_and_features_do_not_mix(
    api: httpx.Client, live: LiveProcess, world: World
) -> None:
    source = vectors.source_of(1, "post")
    made = vectors.new(live.shelf, "me", world.id, source, "x", SITES["post"], 10, np.ones(D_MODEL))
    body = asked(world)
    body["features"].append({**body["features"][0], "layer": source, "index": made.number})
    told = api.post("/api/steer", json=body)
    assert told.status_code == 400 and "both vectors and features" in told.json()["error"]
