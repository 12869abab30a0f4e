"""`/v1/chat/completions` as OpenAI's own client reads it."""

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from openai.types.chat import ChatCompletion

from tests.api.server import ServerProcess
from tests.live.world import World

MESSAGES = [
    {"role": "user", "content": "salt"},
    {"role": "assistant", "content": "flour"},
    {"role": "user", "content": "egg"},
]
DRAWN = {"temperature": 1.1, "top_p": 0.95, "seed": 5}
ENTRY = {"sae": "1-post", "feature": 5, "strength": 60.0, "unit": "raw"}


@pytest.fixture
def chat(client: OpenAI, llama: World) -> Any:
    """Asks the model with a chat template."""

    def ask(**fields: Any) -> Any:
        asked = {"model": llama.id, "messages": MESSAGES, "max_completion_tokens": 12} | fields
        return client.chat.completions.create(**asked)

    return ask


@pytest.mark.parametrize("drawing", [{"temperature": 0}, DRAWN])
@pytest.mark.parametrize("steering", [[], [ENTRY]])
def test_the_text_is_that_of_steer(
    chat: Any, server: ServerProcess, llama: World, drawing: Any, steering: Any
) -> None:
    answer = chat(**drawing, extra_body={"steering": steering})
    assert ChatCompletion.model_validate(answer.model_dump(), strict=True) == answer
    body = {"model": llama.id, "messages": MESSAGES, "max_new_tokens": 12, "baseline": False}
    same = server.client.post("/v1/steer", json=body | drawing | {"steering": steering}).json()
    (choice,) = answer.choices
    assert choice.message.content == same["steered"]["text"]
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert answer.usage.prompt_tokens == same["usage"]["prompt_tokens"]
    assert answer.usage.completion_tokens == 12
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"


def test_a_stream_adds_up_to_the_answer(chat: Any) -> None:
    asked = {**DRAWN, "n": 2, "logprobs": True, "top_logprobs": 2}
    whole = chat(**asked)
    *parts, last = chat(**asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == whole.usage
    for choice in whole.choices:
        own = [part.choices[0] for part in parts if part.choices[0].index == choice.index]
        assert "".join(part.delta.content for part in own) == choice.message.content
        assert [part.delta.role for part in own] == ["assistant"] + [None] * (len(own) - 1)
        assert [part.finish_reason for part in own] == [None] * (len(own) - 1) + ["length"]
        drawn = [one for part in own for one in part.logprobs.content]
        assert [one.token for one in drawn] == [one.token for one in choice.logprobs.content]
        assert [one.logprob for one in drawn] == pytest.approx(
            [one.logprob for one in choice.logprobs.content], abs=1e-4
        )


def test_the_clients_own_helper_reads_the_stream(client: OpenAI, llama: World, chat: Any) -> None:
    """It takes a text that was cut for a failure, so this one ends by a stop string."""
    text = chat(**DRAWN).choices[0].message.content
    asked: Any = {"model": llama.id, "messages": MESSAGES, "stop": text[5:8], **DRAWN}
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text[: text.index(text[5:8])]
    assert final.choices[0].finish_reason == "stop"


def test_many_clients_at_once(server: ServerProcess, llama: World, chat: Any) -> None:
    async def everybody() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            asked: Any = {"model": llama.id, "messages": MESSAGES, "max_tokens": 12, **DRAWN}
            tasks = [client.chat.completions.create(**asked | {"seed": i}) for i in range(12)]
            return [one.choices[0].message.content or "" for one in await asyncio.gather(*tasks)]

    texts = asyncio.run(everybody())
    alone = [chat(**DRAWN | {"seed": i}).choices[0].message.content for i in range(12)]
    assert texts == alone and len(set(texts)) > 6


def test_logprobs_token_by_token(chat: Any) -> None:
    answer = chat(**DRAWN, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    raw = b"".join(bytes(one.bytes or ()) for one in content)
    assert raw.decode(errors="replace") == answer.choices[0].message.content
    for one in content:
        values = [top.logprob for top in one.top_logprobs]
        assert len(values) == 3 and values == sorted(values, reverse=True) and one.logprob <= 0
    assert chat(**DRAWN, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_without_a_number_it_goes_on_as_far_as_there_is_room(chat: Any, llama: World) -> None:
    answer = chat(temperature=0, max_completion_tokens=None)
    if answer.choices[0].finish_reason == "length":
        assert answer.usage.total_tokens == llama.model.context_size
    assert answer.usage.completion_tokens > 12


def test_text_in_parts_and_an_answer_that_is_handed_back(chat: Any) -> None:
    first = chat(temperature=0)
    parts = [{"type": "text", "text": "sa"}, {"type": "text", "text": "lt"}]
    in_parts = chat(temperature=0, messages=[{"role": "user", "content": parts}, *MESSAGES[1:]])
    assert in_parts.choices[0].message.content == first.choices[0].message.content
    back = first.choices[0].message.model_copy(update={"content": "flour"})
    handed = chat(temperature=0, messages=[MESSAGES[0], back.model_dump(), MESSAGES[2]])
    assert handed.choices[0].message.content == first.choices[0].message.content


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_the_template_refuses(chat: Any, role: str) -> None:
    with pytest.raises(BadRequestError, match="no system messages"):
        chat(messages=[{"role": role, "content": "x"}])


def test_a_model_without_a_template(chat: Any, world: World) -> None:
    with pytest.raises(BadRequestError, match="no chat template") as refused:
        chat(model=world.id)
    assert refused.value.type == "invalid_request_error"
