"""Tokens, conversations, and what the server says of itself."""

import httpx
import pytest

from tests.api.server import ServerProcess
from tests.compat.inference.conftest import Ask
from tests.live.process import LiveProcess
from tests.live.world import World
from worker.tokens import encode_text


@pytest.mark.parametrize(
    ("text", "prepend", "put"),
    [("salt", True, True), ("salt", None, True), ("salt", False, False), ("<s>salt", False, False)],
)
def test_tokenize(ask: Ask, world: World, text: str, prepend: bool | None, put: bool) -> None:
    told = ask("tokenize", {"model": world.id, "text": text, "prependBos": prepend})
    assert told["tokens"] == encode_text(world.model, text, prepend)
    assert len(told["tokenStrings"]) == len(told["tokens"])
    assert told["prependBos"] is put
    assert ask("tokenize", {"model": world.id, "text": ""}) == {
        "tokens": [0], "tokenStrings": ["<s>"], "prependBos": True
    }  # fmt: skip


def test_a_chat_template_and_whose_tokens_are_whose(ask: Ask, llama: World) -> None:
    messages = [
        {"role": "user", "content": "salt"},
        {"role": "assistant", "content": "flour", "channel": "final"},
    ]
    told = ask("apply-chat-template", {"model": llama.id, "messages": messages})
    assert told["prompt"] == "<s><user> salt\n<assistant> flour\n<assistant>"
    assert told["tokens"] == encode_text(llama.model, told["prompt"], prepend_bos=False)
    spans = told["spans"]
    assert [one["tokenId"] for one in spans] == told["tokens"]
    assert [one["position"] for one in spans] == list(range(len(spans)))
    for index, content, role, channel in (
        (0, "salt", "user", None),
        (1, "flour", "assistant", "final"),
    ):
        own = [one for one in spans if one["messageIndex"] == index]
        inner = "".join(one["tokenStr"] for one in own if one["section"] == "content")
        assert inner.strip() == content
        assert {(one["role"], one["channel"]) for one in own} == {(role, channel)}
    sections = [one["section"] for one in spans]
    assert sections[0] == "header" and sections[-1] == "footer"
    asked = {"model": llama.id, "messages": messages[:1], "add_generation_prompt": False}
    assert ask("apply-chat-template", asked)["prompt"] == "<s><user> salt\n<assistant>"


def test_a_slash_at_the_end_changes_nothing(server: ServerProcess, world: World) -> None:
    body = {"model": world.id, "text": "salt"}
    answers = [
        server.client.post(f"/inference/v1/tokenize{end}", json=body, follow_redirects=False)
        for end in ("", "/", "//")
    ]
    assert [one.status_code for one in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert server.client.get("/inference/health/").json() == {"status": "healthy"}
    for path in ("/inference/", "/inference//", "/inference/v1/", "/inference"):
        assert server.client.get(path, follow_redirects=False).status_code == 404
    assert server.client.get("/v1/models/", follow_redirects=False).status_code != 200


def test_capabilities(server: ServerProcess, live: LiveProcess, world: World, llama: World) -> None:
    told = server.client.get("/inference/v1/capabilities", params={"model": world.id}).json()
    assert told["model"] == world.id and set(told["models"]) == {world.id, llama.id}
    assert (told["device"], told["num_layers"]) == ("cpu", 3)
    assert told["token_limit"] == told["activation_token_limit"] == told["max_tokens"] == 64
    assert told["max_concurrent_requests"] == live.health()["rows"]
    assert {"topk", "post", "mlp"} <= set(told["sae_sets"]) and "no" not in told["sae_sets"]
    assert {"resid_pre", "resid_post", "mlp_post", "mlp_out", "attn_out", "z"} <= set(
        told["capture_points"]
    )
    assert told["endpoints"]["activation_all"] and not told["endpoints"]["lens_logit"]
    first = server.client.get("/inference/v1/capabilities").json()
    assert first["model"] == min(world.id, llama.id)
    absent = server.client.get("/inference/v1/capabilities", params={"model": "gpt5"})
    assert absent.status_code == 404 and list(absent.json()) == ["error"]


def test_compressed_as_who_asks_wants(server: ServerProcess, world: World) -> None:
    body = {"model": world.id, "text": "salt " * 600}
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        answer = client.post("/inference/v1/tokenize", json=body)
    assert answer.headers["content-encoding"] == "gzip" and len(answer.json()["tokens"]) > 600
