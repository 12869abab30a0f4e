"""The live worker as a process, over HTTP: what it answers and what it refuses."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from app.contract.live import ActivationsAnswer, LiveHealth, SteerAnswer, SteerEvent, TokenizeAnswer
from app.errors import from_body
from app.store import write
from tests.live.process import LiveProcess
from tests.live.world import SITES, TEXTS, World, run
from tests.worker.tiny import save_sae
from worker.tokens import encode_text


def steer(world: World, prompt: str = TEXTS[0], **fields: Any) -> dict[str, Any]:
    return {"model": world.id, "prompt": prompt, "interventions": [], "max_new_tokens": 12} | fields


def events(live: LiveProcess, body: dict[str, Any]) -> list[SteerEvent]:
    with live.client.stream("POST", "/steer", json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        return [SteerEvent.model_validate_json(line) for line in response.read().splitlines()]


def test_only_who_holds_the_token_is_answered(live: LiveProcess) -> None:
    for headers in ({}, {"Authorization": "Bearer guess"}):
        answer = httpx.get(f"{live.settings.live_url}/health", headers=headers)
        assert answer.status_code == 401
    assert LiveHealth.model_validate(live.health()).device == "cpu"


def test_tokenize(live: LiveProcess, world: World) -> None:
    body = {"model": world.id, "text": "The 学", "prepend_bos": False}
    answer = TokenizeAnswer.model_validate(live.post("/tokenize", body))
    assert answer.ids == encode_text(world.model, "The 学", prepend_bos=False)
    assert len(answer.tokens) == len(answer.ids)


def test_activations(live: LiveProcess, world: World) -> None:
    """Ranked and whole, several SAEs and neurons at once, BOS included."""
    body = {
        "model": world.id,
        "saes": ["1-topk", "1-standard", "2-mlp"],
        "texts": [TEXTS[0], TEXTS[3]],
        "features": {"1-standard": [5, 90], "2-mlp": [0]},
        "top_k": 3,
    }
    raw = live.post("/activations", body)
    answer = ActivationsAnswer.model_validate(raw)
    for text, result in zip(body["texts"], answer.results, strict=True):
        ids = encode_text(world.model, text)
        assert result.tokens[0] == "<s>" and len(result.tokens) == len(ids)
        assert set(raw["results"][0]["saes"]["1-topk"]) == {"top"}
        top = result.saes["1-topk"].top
        assert top is not None and max(map(len, top)) == 3
        for token in top:
            assert [f.value for f in token] == sorted((f.value for f in token), reverse=True)
        columns = result.saes["1-standard"].features
        assert columns is not None and set(columns) == {5, 90}
        assert all(len(column) == len(ids) for column in columns.values())


def test_steer_answers_both_texts(live: LiveProcess, world: World) -> None:
    entry = {"sae": "1-post", "feature": 7, "amount": 6.0, "method": "add", "positions": "all"}
    answer = SteerAnswer.model_validate(live.post("/steer", steer(world, interventions=[entry])))
    assert answer.baseline is not None
    assert answer.steered.tokens != answer.baseline.tokens
    assert answer.usage.prompt_tokens == len(encode_text(world.model, TEXTS[0]))
    assert answer.usage.completion_tokens == 24
    assert 0 <= answer.timings.queued <= answer.timings.first_token <= answer.timings.total
    alone = live.post("/steer", steer(world, interventions=[entry], baseline=False, exact=True))
    assert (
        alone["steered"] == answer.steered.model_dump(exclude_unset=True)
        and alone["baseline"] is None
    )


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_a_stream_is_the_answer_in_pieces(
    live: LiveProcess, world: World, temperature: float
) -> None:
    """Also where tokens cut characters apart, which random text is full of."""
    body = steer(world, max_new_tokens=40, temperature=temperature, seed=3)
    *deltas, last = events(live, body)
    assert last.event == "done" and last.done is not None
    for name in ("steered", "baseline"):
        whole = getattr(last.done, name)
        parts = [delta for delta in deltas if delta.answer == name]
        assert len(parts) > 1
        assert "".join(part.text for part in parts) == whole.text
        assert [token for part in parts for token in part.tokens] == whole.tokens
    assert last.done.steered.text == _text_of(world, body)
    assert live.post("/steer", body)["steered"] == last.done.steered.model_dump(exclude_unset=True)


def _text_of(world: World, body: dict[str, Any]) -> str:
    """The answer's bytes, decoded at once."""
    held = world.held()
    generation = world.generation(
        held,
        body["prompt"],
        max_new_tokens=body["max_new_tokens"],
        temperature=body["temperature"],
        seed=body["seed"],
    )
    run(held, generation)
    raw = held.resident.vocabulary.raw
    return b"".join(raw[t] for t in generation.answers[0].tokens).decode(errors="replace")


def test_a_stop_string_ends_a_stream(live: LiveProcess, world: World) -> None:
    text = live.post("/steer", steer(world, max_new_tokens=30))["steered"]["text"]
    stop = text[8:11]
    *deltas, last = events(live, steer(world, max_new_tokens=30, stop=[stop], baseline=False))
    assert last.done is not None and last.done.steered.finish_reason == "stop"
    assert "".join(delta.text for delta in deltas) == text.split(stop)[0]


def test_messages_go_through_the_chat_template(live: LiveProcess, llama: World) -> None:
    messages = [{"role": "user", "content": "salt"}]
    answer = live.post("/steer", steer(llama, prompt=None, messages=messages))
    rendered = encode_text(llama.model, "<user> salt\n<assistant>")
    assert answer["usage"]["prompt_tokens"] == len(rendered)
    same = live.post("/steer", steer(llama, prompt="<user> salt\n<assistant>"))
    assert answer["steered"] == same["steered"]


def test_what_is_registered_and_deleted_is_noticed(
    live: LiveProcess, world: World, tmp_path
) -> None:
    from tests.live.process import sae_record

    world.saes["1-late"] = save_sae(tmp_path / "late", "topk", hook_name=SITES["post"], seed=90)
    body = {"model": world.id, "saes": ["1-late"], "texts": [TEXTS[0]]}
    assert live.client.post("/activations", json=body).status_code == 404
    write.put_sae(live.shelf, sae_record(world, "1-late"))
    first = live.post("/activations", body)
    write.delete_sae(live.shelf, world.id, "1-late")
    assert live.client.post("/activations", json=body).status_code == 404
    world.saes["1-late"] = save_sae(tmp_path / "again", "topk", hook_name=SITES["post"], seed=91)
    world.dictionaries.pop("1-late")
    write.put_sae(live.shelf, sae_record(world, "1-late"))
    assert live.post("/activations", body) != first


def activations(**fields: Any) -> dict[str, Any]:
    return {"saes": ["1-topk"], "texts": ["x"]} | fields


def steering(**fields: Any) -> dict[str, Any]:
    entry = {"sae": "1-post", "feature": 1, "amount": 1.0, "method": "add", "positions": "all"}
    return {"prompt": "x", "interventions": [entry | fields]}


VECTOR = {"sae": None, "feature": None, "hook": SITES["post"]}
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no JSON": ("/steer", {"": b"{"}, 400, "not JSON"),
    "no model": ("/activations", activations(model="nobody"), 404, "no model 'nobody'"),
    "no sae": ("/activations", activations(saes=["9-x"]), 404, "no SAE '9-x'"),
    "no layer of neurons": ("/activations", activations(saes=["7-mlp"]), 404, "3 layers"),
    "no texts": ("/activations", activations(texts=[]), 422, "at least one text"),
    "top_k of 0": ("/activations", activations(top_k=0), 422, "at least 1"),
    "text too long": ("/activations", activations(texts=["salt " * 80]), 422, "reads 64 at most"),
    "texts too many": ("/activations", activations(texts=["The old"] * 9000), 413, "16384"),
    "no feature": ("/activations", activations(features={"1-topk": [96]}), 422, "0 to 95"),
    "features elsewhere": ("/activations", activations(features={"1-pre": [1]}), 422, "saes"),
    "wrong type": ("/activations", activations(texts="x"), 422, "texts"),
    "sae unknown in steering": ("/steer", steering(sae="9-x"), 404, "no SAE '9-x'"),
    "feature too high": ("/steer", steering(feature=96), 422, "0 to 95"),
    "amount too high": ("/steer", steering(amount=1e39), 422, "finite"),
    "no hook": (
        "/steer",
        steering(**VECTOR | {"hook": "blocks.8.hook_z"}, vector=[1.0]),
        422,
        "no hook point",
    ),
    "vector too short": ("/steer", steering(**VECTOR, vector=[1.0]), 422, "1 numbers"),
    "vector clamped": (
        "/steer",
        steering(**VECTOR, vector=[1.0] * 32, method="clamp"),
        422,
        "feature",
    ),
    "prompt and messages": ("/steer", {**steering(), "messages": []}, 422, "either"),
    "no chat template": (
        "/steer",
        {"interventions": [], "messages": [{"role": "user", "content": "x"}]},
        422,
        "chat template",
    ),
    "prompt too long": ("/steer", {**steering(), "prompt": "salt " * 40}, 422, "may be 64"),
    "too many new tokens": ("/steer", {**steering(), "max_new_tokens": 64}, 422, "may be 64"),
    "no new tokens": ("/steer", {**steering(), "max_new_tokens": 0}, 422, "at least 1"),
    "temperature": ("/steer", {**steering(), "temperature": -1}, 422, "temperature"),
    "top_p": ("/steer", {**steering(), "top_p": 0}, 422, "top_p"),
    "top_k": ("/steer", {**steering(), "top_k": 0}, 422, "top_k"),
    "empty stop": ("/steer", {**steering(), "stop": [""]}, 422, "stop"),
    "bad before a stream": ("/steer", {**steering(feature=96), "stream": True}, 422, "0 to 95"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_a_status_and_a_sentence(live: LiveProcess, world: World, name: str) -> None:
    path, body, status, sentence = REFUSED[name]
    content = body.get("") or json.dumps({"model": world.id} | body)
    response = live.client.post(path, content=content)
    assert response.status_code == status, response.text
    problem = from_body(response.json())
    assert problem.status == status and sentence in problem.detail
    assert problem.detail.endswith(".")


def test_a_refused_chat(live: LiveProcess, llama: World) -> None:
    """What the template itself refuses."""
    messages = [{"role": "system", "content": "x"}]
    response = live.client.post("/steer", json=steer(llama, prompt=None, messages=messages))
    assert response.status_code == 422 and "no system messages" in response.text


def test_strengths_that_overflow_end_a_stream_with_a_problem(
    live: LiveProcess, world: World
) -> None:
    entry = {"sae": "1-post", "feature": 1, "amount": 3e38, "method": "add"}
    body = steer(world, interventions=[entry | {"positions": "generated"}], baseline=False)
    *_, last = events(live, body)
    assert last.event == "error" and last.problem is not None
    assert last.problem["status"] == 422 and "strengths" in last.problem["detail"]
    assert live.client.post("/steer", json=body).status_code == 422


def test_values_equal_in_any_company(live: LiveProcess, world: World) -> None:
    """One text alone, and the same text among others of every length."""
    body = {"model": world.id, "saes": ["1-jumprelu"], "texts": [TEXTS[1]], "features": {}}
    alone = live.post("/activations", body)["results"][0]["saes"]["1-jumprelu"]["top"]
    crowd = live.post("/activations", body | {"texts": [*TEXTS, TEXTS[1]]})["results"][-1]
    for one, other in zip(alone, crowd["saes"]["1-jumprelu"]["top"], strict=True):
        assert [f["feature"] for f in one] == [f["feature"] for f in other]
        values = [[f["value"] for f in token] for token in (one, other)]
        assert np.allclose(*values, rtol=1e-5, atol=1e-6)
