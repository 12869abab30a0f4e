"""Every error on OpenAI's routes has OpenAI's shape and a status that its clients know."""

import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from openai import APIError, BadRequestError, NotFoundError, OpenAI

from app.settings import Settings
from app.store.engine import open_shelf
from tests.api.conftest import broken_client_of, client_of
from tests.api.server import ServerProcess
from tests.api.test_live_away import CHUNKED, Listener, chunk, listening
from tests.databases import prepare
from tests.live.process import LiveProcess
from tests.live.world import World
from tests.store import builders

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
MESSAGE = {"role": "user", "content": "x"}
BODIES = {
    TEXT: {"model": "tiny", "prompt": "x"},
    CHAT: {"model": "tiny", "messages": [MESSAGE]},
}


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error object of an answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["type"] == ("invalid_request_error" if status < 500 else "server_error")
    return body["error"]


REFUSED: list[tuple[str, dict[str, Any], str | None, str]] = [
    # path, change, param, what the sentence says
    (TEXT, {"temperature": 2.1}, "temperature", "at most 2"),
    (TEXT, {"temperature": "hot"}, "temperature", "valid number"),
    (TEXT, {"top_p": 0}, "top_p", "more than 0"),
    (TEXT, {"n": 0}, "n", "at least 1"),
    (TEXT, {"n": 65}, "n", "at most 64"),
    (TEXT, {"n": 40, "prompt": ["a", "b"]}, "n", "64 in all"),
    (TEXT, {"prompt": []}, "prompt", "a list of token ids"),
    (TEXT, {"prompt": ["a", 1]}, "prompt", "a list of token ids"),
    (TEXT, {"prompt": [[]]}, "prompt", "a list of token ids"),
    (TEXT, {"prompt": [-1]}, "prompt", "a list of token ids"),
    (TEXT, {"prompt": None}, "prompt", "a list of token ids"),
    (TEXT, {"prompt": "x" * 3_000, "max_tokens": 2_000}, "max_tokens", "1,024"),
    (TEXT, {"max_tokens": 0}, "max_tokens", "at least 1"),
    (TEXT, {"logprobs": 21}, "logprobs", "at most 20"),
    (TEXT, {"logprobs": -1}, "logprobs", "at least 0"),
    (TEXT, {"logprobs": 20, "n": 64, "max_tokens": 200}, "logprobs", "131072 in all"),
    (TEXT, {"seed": 2**63}, "seed", "at most"),
    (TEXT, {"stop": ["a"] * 5}, "stop", "at most 4 strings"),
    (TEXT, {"stop": ""}, "stop", "1 to 256 characters"),
    (TEXT, {"stop": 3}, "stop", "at most 4 strings"),
    (TEXT, {"presence_penalty": 3}, "presence_penalty", "at most 2"),
    (TEXT, {"frequency_penalty": -3}, "frequency_penalty", "at least -2"),
    (TEXT, {"echo": True}, "echo", "is not served here; leave it out, or give False"),
    (TEXT, {"echo": 0}, "echo", "is not served here; leave it out, or give False"),
    (TEXT, {"suffix": "end"}, "suffix", "is not served here"),
    (TEXT, {"best_of": 2}, "best_of", "is not served here"),
    (TEXT, {"logit_bias": {"3": 1}}, "logit_bias", "is not served here"),
    (TEXT, {"top_q": 1}, "top_q", "There is no field `top_q`; these are served: frequency_penalty"),
    (TEXT, {"steering": [{"sae": "0-res"}]}, "steering.0", "give either"),
    (TEXT, {"steering": [{"sae": "0-res", "feature": 64}]}, "steering.0.feature", "0 to 63"),
    (TEXT, {"steering": [{"sae": "0-res", "feature": 1}] * 33}, "steering", "at most 32"),
    (TEXT, {"model": 5}, "model", "valid string"),
    (CHAT, {"messages": []}, "messages", "length of at least 1"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'developer'"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages.0.content", "a value is required"),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages.0.content", "string"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content",
        'only parts {"type": "text"',
    ),
    (CHAT, {"messages": [MESSAGE | {"tool_calls": [{}]}]}, "messages.0.tool_calls", "not read"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools", "is not served here"),
    (CHAT, {"tool_choice": "required"}, "tool_choice", "is not served here"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format", "is not served here"),
    (CHAT, {"modalities": ["text", "audio"]}, "modalities", "is not served here"),
    (CHAT, {"max_tokens": 4, "max_completion_tokens": 5}, None, "give one"),
    (CHAT, {"top_logprobs": 2}, None, "needs `logprobs: true`"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
    (CHAT, {"prompt": "x"}, "prompt", "There is no field `prompt`"),
]


@pytest.mark.parametrize(("path", "change", "param", "sentence"), REFUSED)
def test_what_is_refused(
    alone: TestClient, path: str, change: dict[str, Any], param: str | None, sentence: str
) -> None:
    error = error_of(alone.post(path, json=BODIES[path] | change), 400)
    assert sentence in error["message"] and error["param"] == param
    assert not error["message"].startswith("body.")


def test_several_things_at_once_are_all_told(alone: TestClient) -> None:
    body = BODIES[TEXT] | {"n": 0, "top_p": 7}
    error = error_of(alone.post(TEXT, json=body), 400)
    assert "n: " in error["message"] and "top_p: " in error["message"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["gpt5", "openai/gpt-5", "a\0b", "", "x" * 300])
def test_an_unknown_model(alone: TestClient, path: str, name: str) -> None:
    error = error_of(alone.post(path, json=BODIES[path] | {"model": name}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "There is no model" in error["message"]


@pytest.mark.parametrize("path", BODIES)
def test_what_is_refused_before_the_route(alone: TestClient, path: str) -> None:
    as_json = {"content-type": "application/json"}
    assert "not JSON" in error_of(alone.post(path, content=b"{", headers=as_json), 400)["message"]
    assert error_of(alone.post(path, content=b"{}"), 415)
    assert "4,000 bytes" in error_of(alone.post(path, json={"x": "y" * 5_000}), 413)["message"]
    assert "host" in error_of(alone.post(path, headers={"host": "evil"}), 400)["message"]
    foreign = {"origin": "http://evil"}
    assert error_of(alone.post(path, json=BODIES[path], headers=foreign), 403)
    answer = alone.get(path)
    assert "does not take GET" in error_of(answer, 405)["message"]
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_no_live_worker_is_503(alone: TestClient, path: str, stream: bool) -> None:
    answer = alone.post(path, json=BODIES[path] | {"stream": stream})
    assert "cannot be reached" in error_of(answer, 503)["message"]
    assert answer.headers["retry-after"] == "5"


def test_other_routes_answer_with_problems(alone: TestClient) -> None:
    answer = alone.post("/v1/steer", json={"model": "gpt5", "prompt": "x"})
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_breaks_in_the_server_is_said_in_the_same_shape(tmp_path: Path) -> None:
    """A case that no handler knows, or one for 503."""
    with broken_client_of(Settings(data_dir=tmp_path)) as client:
        answer = client.post(TEXT, json=BODIES[TEXT])
    assert error_of(answer, answer.status_code)["type"] == "server_error"


def stocked(folder: Path, url: str) -> Settings:
    """Settings over a shelf with the model `tiny`, with a live worker at `url`."""
    settings = Settings(data_dir=folder, live_url=url)
    prepare(settings.shelf_url)
    shelf = open_shelf(settings.shelf_url)
    builders.fill(shelf)
    shelf.close()
    return settings


DELTA = chunk(b'{"event":"delta","choice":0,"text":"a","finish_reason":null}\n')
ERROR = chunk(b'{"event":"error","problem":{"type":"urn:saescope:problem:unavailable",'
              b'"title":"Not available now","status":503,"detail":"It is over."}}\n')  # fmt: skip


def test_an_error_before_the_first_chunk_has_its_status(tmp_path: Path) -> None:
    with listening(CHUNKED + ERROR + chunk(b"")) as listener:
        settings = stocked(tmp_path, listener.url)
        with client_of(settings) as client:
            answer = client.post(TEXT, json=BODIES[TEXT] | {"stream": True})
    assert error_of(answer, 503)["message"] == "It is over."


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [(ERROR + chunk(b""), "It is over."), (chunk(b""), "ended its answer in the middle")],
)
def test_an_error_after_it_is_what_the_client_raises(
    tmp_path: Path, ending: bytes, sentence: str
) -> None:
    with listening(CHUNKED + DELTA + ending, hold=False) as listener:
        server = ServerProcess(stocked(tmp_path, listener.url)).start()
        try:
            client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            chunks = client.completions.create(model="tiny", prompt="x", stream=True)
            assert next(chunks).choices[0].text == "a"
            with pytest.raises(APIError, match=sentence):
                next(chunks)
        finally:
            server.stop()


@pytest.mark.parametrize(("reply", "stream"), [(b"", False), (b"", True), (CHUNKED + DELTA, True)])
def test_who_leaves_ends_the_work(tmp_path: Path, reply: bytes, stream: bool) -> None:
    with listening(reply) as listener:
        server = ServerProcess(stocked(tmp_path, listener.url)).start()
        try:
            _leave(server, listener, BODIES[TEXT] | {"stream": stream}, bool(reply))
            assert listener.closed.wait(10)
        finally:
            server.stop()


def _leave(
    server: ServerProcess, listener: Listener, body: dict[str, Any], after_chunk: bool
) -> None:
    client = httpx.Client(base_url=server.url, trust_env=False, timeout=30)
    if after_chunk:
        with client.stream("POST", TEXT, json=body) as answer:
            assert next(answer.iter_lines()).startswith("data: ")
    else:
        with pytest.raises(httpx.ReadTimeout):
            client.post(TEXT, json=body, timeout=1.0)
    client.close()
    assert listener.asked.is_set()


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_who_left_are_free(
    server: ServerProcess, live: LiveProcess, world: World, stream: bool
) -> None:
    """Many more rows than there is room for, so most of them never run."""
    body = {"model": world.id, "prompt": "x", "n": 64, "max_tokens": 60, "stream": stream}
    server.client.post(TEXT, json=body | {"n": 1, "stream": False})
    before = live.health()["generated"]
    clients = [HTTPConnection(server.url.removeprefix("http://")) for _ in range(12)]
    for client in clients:
        client.request("POST", TEXT, json.dumps(body), {"content-type": "application/json"})
    deadline = time.monotonic() + 20
    while live.health()["waiting"] < 4 * 64:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for client in clients:
        client.close()
    live.wait_idle()
    assert live.health()["generated"] - before < len(clients) * 64 * 60 * 0.75


def test_the_client_knows_the_errors(client: OpenAI, world: World) -> None:
    with pytest.raises(NotFoundError) as absent:
        client.completions.create(model="gpt5", prompt="x")
    assert (absent.value.code, absent.value.param) == ("model_not_found", "model")
    with pytest.raises(NotFoundError):
        client.models.retrieve("gpt5")
    with pytest.raises(BadRequestError) as long:
        client.completions.create(model=world.id, prompt="salt " * 60)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(BadRequestError, match="no embedding"):
        client.completions.create(model=world.id, prompt=[100_000])
    with pytest.raises(BadRequestError, match="has 32"):
        vector: Any = {"hook": "blocks.1.hook_resid_post", "vector": [1.0]}
        client.completions.create(model=world.id, prompt="x", extra_body={"steering": [vector]})
    with pytest.raises(NotFoundError, match="9-res"):
        missing: Any = {"sae": "9-res", "feature": 1}
        client.completions.create(model=world.id, prompt="x", extra_body={"steering": [missing]})


def test_frames_are_as_documented(server: ServerProcess, world: World) -> None:
    body = {"model": world.id, "prompt": "x", "max_tokens": 3, "stream": True}
    with server.client.stream("POST", TEXT, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = answer.read().decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(frame.removeprefix("data: ")) for frame in frames[:-2])
