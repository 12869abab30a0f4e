"""Every error on the inference server's routes is `{"error": sentence}`, with a status that fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.compat.inference.unserved import UNSERVED
from app.settings import Settings
from app.store import write
from app.store.engine import open_shelf
from tests.api.conftest import NOBODY, client_of
from tests.api.server import ServerProcess
from tests.compat.openai.test_errors import stocked
from tests.live.world import SITES, World
from tests.store import builders
from worker.tokens import encode_text

STEER: dict[str, Any] = {
    "prompt": "x", "model": "tiny", "steerMethod": "SIMPLE_ADDITIVE", "normalizeSteering": False,
    "types": ["STEERED", "DEFAULT"],
    "features": [{"model": "tiny", "source": "0-res", "index": 5, "strength": 3}],
    "nCompletionTokens": 4, "temperature": 0, "strengthMultiplier": 2, "freqPenalty": 0, "seed": 1,
}  # fmt: skip
CHAT = STEER | {"prompt": [{"role": "user", "content": "x"}], "steerSpecialTokens": True}
ONE = {"prompt": "x", "model": "tiny", "source": "0-res"}
SINGLE = ONE | {"index": "5"}
ALL = {
    "prompt": "x", "model": "tiny", "sourceSet": "res", "selectedSources": [],
    "sortByTokenIndexes": [], "ignoreBos": True,
}  # fmt: skip
TOPK = ONE | {"ignoreBos": True}
SOURCE = {"prompts": ["x"], "model": "tiny", "source": "0-res"}
RAW = {"prompts": ["x"], "model": "tiny"}
VECTOR = {"model": "tiny", "source": "0-res", "index": 5}
NEAR = {"feature": VECTOR, "model": "tiny", "source": "0-res", "numResults": 3}
TOKENS = {"model": "tiny", "text": "x"}
TEMPLATE = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
BODIES: dict[str, dict[str, Any]] = {
    "activation/single": SINGLE,
    "activation/single-batch": {"prompts": ["x"], "model": "tiny", "source": "0-res", "index": "5"},
    "activation/all": ALL,
    "activation/all-batch": {k: v for k, v in ALL.items() if k != "prompt"} | {"prompts": ["x"]},
    "activation/topk-by-token": TOPK,
    "activation/topk-by-token-batch": SOURCE | {"ignoreBos": True},
    "activation/source": SOURCE,
    "activation/raw": RAW,
    "steer/completion": STEER,
    "steer/completion-chat": CHAT,
    "tokenize": TOKENS,
    "apply-chat-template": TEMPLATE,
    "util/sae-vector": VECTOR,
    "util/sae-topk-by-decoder-cossim": NEAR,
}


def at(path: str) -> str:
    return f"/inference/v1/{path}"


def error_of(answer: httpx.Response, status: int) -> str:
    """The sentence of an answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"] and not body["error"].startswith("body.")
    return body["error"]


_XOR = "exactly one of"
BOTH = {"vectors": [{"steeringVector": [1.0], "strength": 1, "hook": "h"}]}
_FEATURE = STEER["features"][0]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("activation/single", {"index": None}, "exactly one of layer/index or vector must be provided"),
    ("activation/single", {"vector": [1.0], "hook": "h"}, _XOR),
    ("activation/single", {"index": 5}, "index: input should be a valid string"),
    ("activation/single", {"index": "five"}, "index"),
    ("activation/single", {"prompt": 5}, "prompt: input should be a valid string"),
    ("activation/single", {"model": None}, "model"),
    ("activation/single", {"source": "a/b"}, "source"),
    ("activation/single", {"prompt": "y" * 60_000}, "60,000 characters; allowed: at most 50,000"),
    ("activation/single-batch", {"prompts": []}, "At least one prompt is required"),
    ("activation/single-batch", {"prompts": ["x"] * 5}, "Batch size 5 exceeds maximum of 4"),
    ("activation/all-batch", {"prompts": ["x"] * 5}, "Batch size 5 exceeds maximum of 4"),
    ("activation/topk-by-token-batch", {"prompts": ["x"] * 5}, "Batch size 5 exceeds maximum of 4"),
    ("activation/source", {"prompts": ["x"] * 5}, "Batch size 5 exceeds maximum of 4"),
    ("activation/source", {"prompts": []}, "At least one prompt is required"),
    ("activation/all", {"sourceSet": "res-x"}, "Invalid source set: 'res-x'; tiny has: res"),
    ("activation/all", {"selectedSources": ["0-res"] * 129}, "at most 128"),
    ("activation/all", {"sortByTokenIndexes": [0] * 20_000}, "at most 16384"),
    ("activation/all", {"sortByTokenIndexes": ["0"]}, "valid integer"),
    ("activation/all", {"sortByTokenIndexes": [2**64]}, "sortByTokenIndexes.0"),
    ("activation/all", {"numResults": 0}, "numResults: input should be greater than or equal to 1"),
    ("activation/all", {"ignoreBos": None}, "ignoreBos"),
    ("activation/topk-by-token", {"topK": 5_000}, "at most 1000"),
    ("activation/raw", {"prompts": []}, "At least one prompt is required"),
    ("activation/raw", {"prompts": ["x"] * 17}, "Batch size 17 exceeds maximum of 16"),
    ("activation/raw", {"hookPoint": "mlp_out"}, "Unsupported hook_point 'mlp_out'. Only 'resid"),
    ("activation/raw", {"type": "mean"}, "Unsupported type 'mean'. Only 'final_output_token'"),
    ("activation/raw", {"layers": [0, 12]}, "Layers [12] are out of range; this model has 2 layers"),
    ("activation/raw", {"layers": [-1]}, "Layers [-1] are out of range"),
    ("activation/raw", {"layers": [True]}, "valid integer"),
    ("activation/raw", {"layers": ["0"]}, "valid integer"),
    ("steer/completion", {"features": None}, "exactly one of features or vectors must be provided"),
    ("steer/completion", BOTH, "exactly one of features or vectors must be provided"),
    ("steer/completion-chat", {"features": None}, "exactly one of features or vectors"),
    ("steer/completion", {"types": []}, "types"),
    ("steer/completion", {"types": ["DEFAULT"] * 3}, "at most 2"),
    ("steer/completion", {"types": ["LOUD"]}, "'STEERED' or 'DEFAULT'"),
    ("steer/completion", {"steerMethod": "WARP"}, "'ORTHOGONAL_DECOMP' or 'PROJECTION_CAP'"),
    ("steer/completion", {"nCompletionTokens": 0}, "nCompletionTokens"),
    ("steer/completion", {"nCompletionTokens": 1.5}, "valid integer"),
    ("steer/completion", {"nCompletionTokens": 2_000}, "at most 1,024 (SAESCOPE_MAX_NEW_TOKENS)"),
    ("steer/completion", {"temperature": -1}, "temperature"),
    ("steer/completion", {"nLogprobs": 11}, "nLogprobs"),
    ("steer/completion", {"seed": 1e300}, "seed"),
    ("steer/completion", {"seed": "1"}, "seed"),
    ("steer/completion", {"streamFormat": "whole"}, "'cumulative' or 'delta'"),
    ("steer/completion", {"features": [_FEATURE] * 33}, "at most 32 (SAESCOPE_MAX_STEERING)"),
    ("steer/completion", {"features": [_FEATURE | {"index": 64}]}, "features.0.feature is 64; allowed: 0 to 63 of 0-res"),
    ("steer/completion", {"features": [_FEATURE | {"index": "5"}]}, "features.0.index"),
    ("steer/completion", {"features": [_FEATURE | {"model": "gpt5"}]}, "features.0.model is 'gpt5'"),
    ("steer/completion", {"features": [_FEATURE | {"strength": 1e39}]}, "features.0.strength"),
    ("steer/completion", {"strengthMultiplier": 1e308, "features": [_FEATURE | {"strength": 1e9}]},
     "features.0.strength times strengthMultiplier is no finite number"),
    ("steer/completion-chat", {"isAssistantAxis": True}, "isAssistantAxis is not served here"),
    ("steer/completion-chat", {"prompt": []}, "prompt"),
    ("steer/completion-chat", {"prompt": [{"role": "tool", "content": "x"}]},
     "prompt.0.role is 'tool'; allowed: model, developer, system, user, assistant"),
    ("tokenize", {"text": None}, "text"),
    ("apply-chat-template", {"messages": []}, "messages"),
    ("apply-chat-template", {"chatTemplateKwargs": {"x": "y" * 70_000}}, "at most 65,536 bytes"),
    ("apply-chat-template", {"chatTemplateKwargs": {"x": 10**20}}, "cannot be passed on"),
    ("apply-chat-template", {"messages": [{"role": "user", "content": "x"}] * 257}, "at most 256"),
    ("apply-chat-template", {"addGenerationPrompt": 0}, "valid boolean"),
    ("util/sae-vector", {"index": "5"}, "index"),
    ("util/sae-vector", {"index": True}, "index"),
    ("util/sae-vector", {"index": -1}, "index"),
    ("util/sae-topk-by-decoder-cossim", {"vector": [1.0]},
     "exactly one of feature or vector must be provided"),
    ("util/sae-topk-by-decoder-cossim", {"feature": None}, "exactly one of feature or vector"),
    ("util/sae-topk-by-decoder-cossim", {"source": "fake-source"},
     "Invalid SAE ID or type: fake-source"),
    ("util/sae-topk-by-decoder-cossim", {"feature": VECTOR | {"source": "fake-source"}},
     "Invalid SAE ID or type: fake-source"),
    ("util/sae-topk-by-decoder-cossim", {"feature": VECTOR | {"model": "other"}}, "feature.model"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "change", "sentence"), REFUSED)
def test_what_is_refused(
    roomy: TestClient, path: str, change: dict[str, Any], sentence: str
) -> None:
    assert sentence in error_of(roomy.post(at(path), json=BODIES[path] | change), 400)


WHOLE = [
    ("activation/all", {"sortByTokenIndexes": [1.0], "numResults": 5.0}),
    ("activation/topk-by-token", {"topK": 3.0}),
    ("activation/raw", {"layers": [1.0]}),
    ("steer/completion", {"nCompletionTokens": 4.0, "nLogprobs": 2.0}),
    ("util/sae-vector", {"index": 5.0}),
    ("util/sae-topk-by-decoder-cossim", {"numResults": 3.0}),
]


@pytest.mark.parametrize(("path", "change"), WHOLE)
def test_whole_numbers_may_have_a_point(
    alone: TestClient, path: str, change: dict[str, Any]
) -> None:
    """As JSON Schema has it; the live worker, which is not there, is asked."""
    error = error_of(alone.post(at(path), json=BODIES[path] | change), 503)
    assert "cannot be reached" in error


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API without a live worker, over a shelf with the model `tiny`; it takes large bodies."""
    with client_of(stocked(tmp_path_factory.mktemp("roomy"), NOBODY)) as client:
        yield client


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["gpt5", "openai/gpt-5", "a\0b", ""])
def test_an_unknown_model_is_told_which_there_are(alone: TestClient, path: str, name: str) -> None:
    error = error_of(alone.post(at(path), json=BODIES[path] | {"model": name}), 404)
    assert error == f"There is no model {name!r} here; there are: tiny."


@pytest.mark.parametrize("path", ["activation/raw", "apply-chat-template"])
def test_a_model_that_is_left_out_is_the_only_one(tmp_path: Path, path: str) -> None:
    settings = stocked(tmp_path, NOBODY)
    body = {key: value for key, value in BODIES[path].items() if key != "model"}
    with client_of(settings) as client:
        assert "cannot be reached" in error_of(client.post(at(path), json=body), 503)
        shelf = open_shelf(settings.shelf_url)
        write.put_model(shelf, builders.model_record("another", "e" * 64), builders.vocabulary())
        shelf.close()
        error = error_of(client.post(at(path), json=body), 400)
    assert error == "Name the model in `model`; there are: another, tiny."


@pytest.mark.parametrize("path", BODIES)
def test_what_is_refused_before_the_route(alone: TestClient, path: str) -> None:
    as_json = {"content-type": "application/json"}
    assert "not JSON" in error_of(alone.post(at(path), content=b"{", headers=as_json), 400)
    assert error_of(alone.post(at(path), content=b"{}"), 415)
    assert "4,000 bytes" in error_of(alone.post(at(path), json={"x": "y" * 5_000}), 413)
    assert "host" in error_of(alone.post(at(path), headers={"host": "evil"}), 400)
    foreign = {"origin": "http://evil"}
    assert error_of(alone.post(at(path), json=BODIES[path], headers=foreign), 403)
    answer = alone.get(at(path))
    assert "does not take GET" in error_of(answer, 405) and answer.headers["allow"] == "POST"
    assert "a value is required" in error_of(alone.post(at(path), json={}), 400)


def test_what_is_not_there_and_what_is_not_served(alone: TestClient) -> None:
    assert error_of(alone.get("/inference/v1/nothing"), 404)
    for (method, path), reason in UNSERVED.items():
        body = {} if method == "POST" else None
        assert error_of(alone.request(method, f"/inference{path}", json=body), 404) == reason
    assert "not-found" in alone.get("/v1/nothing").text


@pytest.mark.parametrize("path", BODIES)
def test_no_live_worker_is_503(alone: TestClient, path: str) -> None:
    answer = alone.post(at(path), json=BODIES[path])
    assert "cannot be reached" in error_of(answer, 503)
    assert answer.headers["retry-after"] == "5"
    if path.startswith("steer"):
        assert error_of(alone.post(at(path), json=BODIES[path] | {"stream": True}), 503)
    assert error_of(alone.get("/inference/v1/capabilities"), 503)


def test_who_does_not_hold_the_secret_is_refused(tmp_path: Path) -> None:
    settings = stocked(tmp_path, NOBODY)
    secret = settings.model_validate(settings.model_dump() | {"inference_secret": "s€cret"})
    assert "s€cret" not in repr(secret) and "s€cret" not in str(secret.model_dump())
    with client_of(secret) as client:
        for headers in (
            {},
            {"X-SECRET-KEY": ""},
            {"X-SECRET-KEY": "s"},
            {"x-secret-key": b"s\xe9"},
        ):
            for path, body in BODIES.items():
                refused = client.post(at(path), json=body, headers=headers)
                error = error_of(refused, 401)
                assert error == "Invalid or missing X-SECRET-KEY header"
            assert error_of(client.get("/inference/v1/capabilities", headers=headers), 401)
            assert error_of(client.get("/inference/v1/nothing", headers=headers), 401)
            assert error_of(client.post("/inference/v1/tokenize/", json={}, headers=headers), 401)
            assert client.get("/inference/health", headers=headers).json() == {"status": "healthy"}
            assert client.get("/inference/health/", headers=headers).status_code == 200
            assert client.get("/v1/models", headers=headers).status_code == 200
        held = {"x-secret-key": "s€cret".encode()}
        assert error_of(client.post(at("tokenize"), json=TOKENS, headers=held), 503)


def test_an_empty_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAESCOPE_INFERENCE_SECRET", "")
    assert Settings().inference_secret is None


LONG = "salt " * 80
TOO_LONG = "Text too long: {} tokens, max is 64"


READING = [path for path in BODIES if path.startswith("activation")]


@pytest.mark.parametrize("path", [*READING, "steer/completion"])
def test_texts_that_are_too_long(server: ServerProcess, world: World, path: str) -> None:
    body = BODIES[path] | {"model": world.id}
    if "source" in body:
        body["source"] = "1-topk"
    if "sourceSet" in body:
        body["sourceSet"] = "topk"
    if path == "steer/completion":
        body["features"] = [_FEATURE | {"model": world.id, "source": "1-post"}]
    name = "prompts" if "prompts" in body else "prompt"
    long = ["x", LONG] if name == "prompts" else LONG
    answer = server.client.post(at(path), json=body | {name: long})
    count = len(encode_text(world.model, LONG))
    assert error_of(answer, 400) == TOO_LONG.format(count)


def test_what_the_live_worker_refuses(server: ServerProcess, world: World, llama: World) -> None:
    def told(path: str, change: dict[str, Any], status: int = 400) -> str:
        own = {"model": world.id, "source": "1-topk"}
        body = BODIES[path] | {key: own[key] for key in own if key in BODIES[path]} | change
        return error_of(server.client.post(at(path), json=body), status)

    assert "has no SAE '9-res'" in told("activation/single", {"source": "9-res"}, 404)
    assert "has no SAE '9-res'" in told("activation/topk-by-token", {"source": "9-res"}, 404)
    assert "has no SAE '9-res'" in told("util/sae-vector", {"source": "9-res"}, 404)
    chosen = {"sourceSet": "topk", "selectedSources": ["9-res"]}
    assert "has no SAE '9-res'" in told("activation/all", chosen, 404)
    assert "0 to 95" in told("activation/single", {"index": "96"})
    assert "no tokens besides BOS" in told("activation/single", {"prompt": ""})
    vector = {"source": None, "index": None, "vector": [1.0], "hook": SITES["post"]}
    assert "vector has 1 numbers" in told("activation/single", vector)
    at_token = {"sourceSet": "topk", "sortByTokenIndexes": [0, 2]}
    assert told("activation/all", at_token) == (
        "Sort by token index 2 is out of range for the given prompt, which only has 2 tokens."
    )
    steered = {"features": None, "vectors": [BOTH["vectors"][0] | {"hook": SITES["post"]}]}
    assert "the vector has 1 numbers" in told("steer/completion", steered)
    zero = [{"steeringVector": [0.0] * 32, "strength": 1, "hook": SITES["post"]}]
    asked = {"features": None, "vectors": zero, "normalizeSteering": True}
    assert "vectors.0.steeringVector has the length 0" in told("steer/completion", asked)
    mine = {"features": [_FEATURE | {"model": world.id, "source": "9-res"}]}
    assert "9-res" in told("steer/completion", mine, 404)
    room = told("steer/completion", {"features": [], "prompt": "x" * 63})
    assert room.startswith(
        "No room to generate: the prompt is 64 tokens and the per-request budget"
    )
    base = told("steer/completion-chat", {"features": []})
    assert "chat template" in base and "/v1/steer/completion" in base
    assert "chat template" in told("apply-chat-template", {})
    refused = {"model": llama.id, "features": [], "prompt": [{"role": "developer", "content": "x"}]}
    assert "no system messages" in told("steer/completion-chat", refused)
    options = {"model": llama.id, "chatTemplateKwargs": {"chat_template": "x"}}
    assert "options holds chat_template" in told("apply-chat-template", options)
