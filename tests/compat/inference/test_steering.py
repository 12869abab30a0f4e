"""Steered texts and conversations: against formulas written down here, and against `/v1/steer`."""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.api.server import ServerProcess
from tests.compat.inference.conftest import Ask
from tests.live.process import LiveProcess
from tests.live.world import SITES, TEXTS, World
from tests.worker.tiny import D_MODEL
from worker.models import vocabulary
from worker.sites import add_hook
from worker.tokens import encode_text

VECTOR = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(3))
Change = Callable[[torch.Tensor], torch.Tensor]


def asked(world: World, **fields: Any) -> dict[str, Any]:
    body = {
        "prompt": TEXTS[0],
        "model": world.id,
        "steerMethod": "SIMPLE_ADDITIVE",
        "normalizeSteering": False,
        "types": ["STEERED", "DEFAULT"],
        "features": [{"model": world.id, "source": "1-post", "index": 7, "strength": 3}],
        "nCompletionTokens": 10,
        "temperature": 0,
        "strengthMultiplier": 2,
        "freqPenalty": 0,
        "seed": 16.0,
    }
    return body | fields


def texts(told: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["output"] for one in told["outputs"]}


@torch.no_grad()
def greedy(world: World, ids: list[int], change: Change | None, new: int = 10) -> str:
    """Text of plain forwards of the Hugging Face module, whose states behind block 1 are changed."""
    model, prompt = world.model, len(ids)
    site = model.site(SITES["post"])
    handle = add_hook(model.hf.get_submodule(site.module), site.side, change or (lambda h: None))
    try:
        for _ in range(new):
            ids = [*ids, int(model.hf(torch.tensor([ids])).logits[0, -1].argmax())]
    finally:
        handle.remove()
    raw = vocabulary(model).raw
    return b"".join(raw[one] for one in ids[prompt:]).decode(errors="replace")


def added(vector: torch.Tensor, size: float) -> Change:
    return lambda h: h + size * vector


def decomposed(vector: torch.Tensor, size: float) -> Change:
    """(I - P) h + size P h, P the projection on the vector."""
    projection = torch.outer(vector, vector) / (vector @ vector)
    return lambda h: h - h @ projection + size * (h @ projection)


def capped(vector: torch.Tensor, size: float) -> Change:
    """The component along the vector is `size` at most."""
    unit = vector / vector.norm()
    return lambda h: h - (h @ unit - torch.clamp(h @ unit, max=size))[..., None] * unit


METHODS = {
    "SIMPLE_ADDITIVE": added,
    "ORTHOGONAL_DECOMP": decomposed,
    "PROJECTION_CAP": capped,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(1.5, 4.0), (-3.0, 1.0)])
@pytest.mark.parametrize("target", ["feature", "override", "vector"])
@pytest.mark.parametrize("normalize", [False, True])
def test_methods_are_their_formulas(
    ask: Ask, world: World, method: str, size: tuple[float, float], target: str, normalize: bool
) -> None:
    """At all tokens, BOS included; a feature by its unit decoder row."""
    strength, multiplier = size
    row = torch.nn.functional.normalize(world.sae_lens("1-post").W_dec.detach()[7], dim=0)
    feature = {"model": world.id, "source": "1-post", "index": 7, "strength": strength}
    vector = {"steeringVector": VECTOR.tolist(), "strength": strength, "hook": SITES["post"]}
    fields: dict[str, Any] = {
        "feature": {"features": [feature]},
        "override": {"features": [feature | {"steeringVector": VECTOR.tolist()}]},
        "vector": {"features": None, "vectors": [vector]},
    }[target]
    direction = row if target == "feature" else VECTOR
    if normalize:
        direction = direction / direction.norm()
    body = asked(world, steerMethod=method, normalizeSteering=normalize,
                 strengthMultiplier=multiplier, **fields)  # fmt: skip
    told = texts(ask("steer/completion", body))
    ids = encode_text(world.model, TEXTS[0])
    assert told["DEFAULT"] == greedy(world, ids, None)
    assert told["STEERED"] == greedy(world, ids, METHODS[method](direction, strength * multiplier))
    if method == "SIMPLE_ADDITIVE":
        assert told["STEERED"] != told["DEFAULT"]


@pytest.mark.parametrize("drawing", [{"temperature": 0}, {"temperature": 1.3, "seed": 5}])
def test_the_text_is_that_of_steer(
    ask: Ask, server: ServerProcess, world: World, drawing: dict[str, Any]
) -> None:
    told = ask("steer/completion", asked(world, **drawing))
    entry = {"sae": "1-post", "feature": 7, "strength": 6, "unit": "raw"}
    body = {"model": world.id, "prompt": TEXTS[0], "max_new_tokens": 10, "steering": [entry]}
    same = server.client.post("/v1/steer", json=body | drawing).json()
    assert told == {
        "outputs": [
            {"type": "STEERED", "output": same["steered"]["text"]},
            {"type": "DEFAULT", "output": same["baseline"]["text"]},
        ]
    }
    alone = ask("steer/completion", asked(world, types=["DEFAULT"], **drawing))
    assert alone["outputs"] == told["outputs"][1:]


def test_seeds_are_whole_and_may_be_negative(ask: Ask, world: World) -> None:
    def drawn(seed: float) -> str:
        body = asked(world, seed=seed, temperature=2, types=["DEFAULT"], nCompletionTokens=20)
        return texts(ask("steer/completion", body))["DEFAULT"]

    assert drawn(-7) == drawn(-7.9) == drawn(-7.0) != drawn(-8)


def test_what_the_text_has_already_is_penalised(ask: Ask, world: World) -> None:
    body = asked(world, types=["DEFAULT"], nCompletionTokens=20, freqPenalty=0.8)
    told = texts(ask("steer/completion", body))["DEFAULT"]
    ids, prompt = encode_text(world.model, TEXTS[0]), len(encode_text(world.model, TEXTS[0]))
    for _ in range(20):
        logits = _logits(world, ids)
        for one in set(ids[prompt:]):
            logits[one] -= 0.8 * ids[prompt:].count(one)
        ids.append(int(logits.argmax()))
    raw = vocabulary(world.model).raw
    assert told == b"".join(raw[one] for one in ids[prompt:]).decode(errors="replace")
    assert told != texts(ask("steer/completion", body | {"freqPenalty": 0}))["DEFAULT"]


@torch.no_grad()
def _logits(world: World, ids: list[int]) -> torch.Tensor:
    return world.model.hf(torch.tensor([ids])).logits[0, -1].double()


def test_logprobs_are_those_of_the_model(ask: Ask, world: World) -> None:
    told = ask("steer/completion", asked(world, nLogprobs=3))
    for output in told["outputs"]:
        assert list(output) == ["type", "output", "logprobs"]
        assert len(output["logprobs"]) == 10
    default = told["outputs"][1]["logprobs"]
    ids = encode_text(world.model, TEXTS[0])
    shown = vocabulary(world.model).display
    for one in default:
        right = _logits(world, ids).log_softmax(-1)
        best = right.topk(3)
        assert list(one) == ["token", "logprob", "topLogprobs"]
        assert one["logprob"] == pytest.approx(float(best.values[0]), abs=1e-4)
        assert [top["token"] for top in one["topLogprobs"]] == [shown[i] for i in best.indices]
        assert [top["logprob"] for top in one["topLogprobs"]] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )
        ids.append(int(best.indices[0]))
        assert one["token"] == shown[ids[-1]]


def frames(server: ServerProcess, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with server.client.stream("POST", f"/inference/v1/{path}", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = answer.read().decode().split("\n\n")
    assert parts.pop() == "" and all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def close(one: Any, other: Any) -> bool:
    """But for the last digits of numbers, which depend on what else is in a batch."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


@pytest.mark.parametrize("logprobs", [0, 2])
def test_a_stream_repeats_all_of_the_text(
    ask: Ask, server: ServerProcess, world: World, logprobs: int
) -> None:
    body = asked(world, nCompletionTokens=30, temperature=3, nLogprobs=logprobs)
    whole = ask("steer/completion", body)
    told = frames(server, "steer/completion", body | {"stream": True})
    assert close(told[-1], whole) and len(told) > 5
    for earlier, later in pairwise(told):
        for one, other in zip(earlier["outputs"], later["outputs"], strict=True):
            assert one["type"] == other["type"] and other["output"].startswith(one["output"])
        assert earlier != later


@pytest.mark.parametrize("logprobs", [0, 2])
def test_deltas_add_up_to_the_text(
    ask: Ask, server: ServerProcess, world: World, logprobs: int
) -> None:
    body = asked(world, nCompletionTokens=30, temperature=3, nLogprobs=logprobs)
    whole = ask("steer/completion", body)
    told = frames(server, "steer/completion", body | {"stream": True, "streamFormat": "delta"})
    for output in whole["outputs"]:
        own = [one for each in told for one in each["outputs"] if one["type"] == output["type"]]
        assert "".join(one["output"] for one in own) == output["output"] and len(own) > 5
        if logprobs:
            assert close([one for each in own for one in each["logprobs"]], output["logprobs"])
        else:
            assert all(list(one) == ["type", "output"] for one in own)
    assert all(each["outputs"] for each in told)


MESSAGES = [
    {"role": "user", "content": "salt"},
    {"role": "model", "content": "flour"},
    {"role": "user", "content": "egg"},
]


def conversation(world: World, **fields: Any) -> dict[str, Any]:
    return asked(world, prompt=MESSAGES, steerSpecialTokens=True, **fields)


def test_a_conversation_goes_on(ask: Ask, server: ServerProcess, llama: World) -> None:
    told = ask("steer/completion-chat", conversation(llama))
    roles = [MESSAGES[0], MESSAGES[1] | {"role": "assistant"}, MESSAGES[2]]
    entry = {"sae": "1-post", "feature": 7, "strength": 6, "unit": "raw"}
    body = {"model": llama.id, "messages": roles, "max_new_tokens": 10, "steering": [entry]}
    same = server.client.post("/v1/steer", json=body).json()
    raw = "<s><user> salt\n<assistant> flour\n<user> egg\n<assistant>"
    turns = [{"content": one["content"], "role": one["role"]} for one in MESSAGES]
    assert told["input"] == {"chatTemplate": turns, "raw": raw}
    for output, text in zip(told["outputs"], ("steered", "baseline"), strict=True):
        answer = same[text]["text"]
        assert output == {
            "chatTemplate": [*turns, {"content": answer, "role": "assistant"}],
            "raw": raw + answer,
            "type": "STEERED" if text == "steered" else "DEFAULT",
        }
    assert set(told) == {"outputs", "input"}


def test_special_tokens_are_steered_or_not(ask: Ask, server: ServerProcess, llama: World) -> None:
    """BOS is the one special token of this conversation."""
    found = {}
    for skipped in (False, True):
        body = conversation(llama, strengthMultiplier=20, types=["STEERED"], nLogprobs=1)
        told = ask("steer/completion-chat", body | {"steerSpecialTokens": not skipped})
        (output,) = told["outputs"]
        entry = {"sae": "1-post", "feature": 7, "strength": 60, "unit": "raw",
                 "skip_special_tokens": skipped}  # fmt: skip
        same = {"model": llama.id, "prompt": told["input"]["raw"], "max_new_tokens": 10,
                "steering": [entry], "baseline": False}  # fmt: skip
        text = server.client.post("/v1/steer", json=same).json()["steered"]["text"]
        assert output["raw"] == told["input"]["raw"] + text
        found[skipped] = output["logprobs"]
    assert not close(found[False], found[True])


def test_a_conversation_as_a_stream(ask: Ask, server: ServerProcess, llama: World) -> None:
    body = conversation(llama, nCompletionTokens=20, temperature=2, nLogprobs=1)
    whole = ask("steer/completion-chat", body)
    *_, last = frames(server, "steer/completion-chat", body | {"stream": True})
    assert close(last, whole)
    told = frames(
        server, "steer/completion-chat", body | {"stream": True, "stream_format": "delta"}
    )
    for output in whole["outputs"]:
        own = [one for each in told for one in each["outputs"] if one["type"] == output["type"]]
        text = "".join(one["output"] for one in own)
        assert whole["input"]["raw"] + text == output["raw"]
        assert close([one for each in own for one in each["logprobs"]], output["logprobs"])


def test_more_tokens_than_there_is_room_for_are_as_many_as_there_is(ask: Ask, world: World) -> None:
    told = ask("steer/completion", asked(world, nCompletionTokens=500, nLogprobs=1))
    room = 64 - len(encode_text(world.model, TEXTS[0]))
    assert [len(one["logprobs"]) for one in told["outputs"]] == [room, room]


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_who_left_are_free(
    server: ServerProcess, live: LiveProcess, world: World, stream: bool
) -> None:
    """Both of a request's texts, before and while they are sent."""
    body = asked(world, nCompletionTokens=50, stream=stream, prompt="x")
    server.client.post("/inference/v1/steer/completion", json=asked(world, prompt="x"))
    before = live.health()["generated"]
    clients = [HTTPConnection(server.url.removeprefix("http://")) for _ in range(100)]
    as_json = {"content-type": "application/json"}
    for client in clients:
        client.request("POST", "/inference/v1/steer/completion", json.dumps(body), as_json)
    deadline = time.monotonic() + 20
    while sum(live.health()[name] for name in ("running", "waiting")) < 20:
        assert time.monotonic() < deadline, live.health()
        time.sleep(0.002)
    for client in clients:
        client.close()
    live.wait_idle()
    assert live.health()["generated"] - before < 2 * len(clients) * 50 * 0.9
