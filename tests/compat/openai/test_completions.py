"""`/v1/completions` as OpenAI's own client reads it."""

from typing import Any

import pytest
from openai import OpenAI
from openai.types import Completion

from tests.api.server import ServerProcess
from tests.live.world import World
from worker.tokens import encode_text

ENTRY = {"sae": "1-post", "feature": 5, "strength": 60.0, "unit": "raw"}
DRAWN = {"temperature": 1.3, "top_p": 0.9, "seed": 11}
PROMPT = "The old keeper"


@pytest.fixture
def complete(client: OpenAI, world: World) -> Any:
    """Asks for a completion of `PROMPT`."""

    def ask(**fields: Any) -> Any:
        asked = {"model": world.id, "prompt": PROMPT, "max_tokens": 20} | fields
        return client.completions.create(**asked)

    return ask


def steered(server: ServerProcess, world: World, **fields: Any) -> dict[str, Any]:
    """What `/v1/steer` answers."""
    body = {"model": world.id, "prompt": PROMPT, "max_new_tokens": 20, "baseline": False} | fields
    answer = server.client.post("/v1/steer", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_models_are_listed_and_found(client: OpenAI, world: World, llama: World) -> None:
    assert {model.id for model in client.models.list()} == {world.id, llama.id}
    model = client.models.retrieve(world.id)
    assert (model.id, model.object, model.owned_by) == (world.id, "model", "saescope")
    assert model.created > 1_700_000_000


@pytest.mark.parametrize("drawing", [{"temperature": 0}, DRAWN])
@pytest.mark.parametrize("steering", [[], [ENTRY]])
def test_the_text_is_that_of_steer(
    complete: Any, server: ServerProcess, world: World, drawing: Any, steering: Any
) -> None:
    answer = complete(**drawing, extra_body={"steering": steering})
    same = steered(server, world, **drawing, steering=steering)
    assert answer.choices[0].text == same["steered"]["text"]
    assert answer.choices[0].finish_reason == same["steered"]["finish_reason"]
    assert answer.usage.prompt_tokens == same["usage"]["prompt_tokens"]
    assert answer.usage.completion_tokens == same["usage"]["completion_tokens"] == 20
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 20


def test_an_answer_is_whole(complete: Any, world: World) -> None:
    answer = complete(seed=1)
    assert Completion.model_validate(answer.model_dump(), strict=True) == answer
    assert answer.object == "text_completion" and answer.model == world.id
    assert answer.id.startswith("cmpl-") and answer.created > 1_700_000_000
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert len(complete(max_tokens=None, logprobs=0).choices[0].logprobs.tokens) == 16


def test_without_a_seed_texts_differ(complete: Any) -> None:
    assert len({complete(temperature=2).choices[0].text for _ in range(3)}) == 3


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_adds_up_to_the_answer(complete: Any, n: int) -> None:
    asked = {**DRAWN, "n": n, "logprobs": 2, "extra_body": {"steering": [ENTRY]}}
    whole = complete(**asked)
    chunks = list(complete(**asked, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    *parts, last = chunks
    assert last.choices == [] and last.usage == whole.usage
    assert all(part.usage is None and len(part.choices) == 1 for part in parts)
    for choice in whole.choices:
        own = [part.choices[0] for part in parts if part.choices[0].index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert [part.finish_reason for part in own] == [None] * (len(own) - 1) + ["length"]
        told = [part.logprobs for part in own]
        assert [one for part in told for one in part.tokens] == choice.logprobs.tokens
        assert [one for part in told for one in part.text_offset] == choice.logprobs.text_offset
        values = [one for part in told for one in part.token_logprobs]
        assert values == pytest.approx(choice.logprobs.token_logprobs, abs=1e-4)


def test_a_stream_without_usage_ends_with_its_text(complete: Any) -> None:
    *_, last = complete(stream=True, temperature=0)
    assert last.choices[0].finish_reason == "length" and last.usage is None


def test_choices_draw_by_seeds_of_their_own(complete: Any) -> None:
    three = complete(**DRAWN, n=3)
    texts = [choice.text for choice in three.choices]
    assert len(set(texts)) == 3 and [choice.index for choice in three.choices] == [0, 1, 2]
    assert texts == [choice.text for choice in complete(**DRAWN, n=3).choices]
    assert texts[0] == complete(**DRAWN).choices[0].text
    neighbour = complete(**DRAWN | {"seed": DRAWN["seed"] + 1}, n=3)
    assert not {choice.text for choice in neighbour.choices} & set(texts)
    assert three.usage.completion_tokens == 60
    assert three.usage.prompt_tokens == complete(**DRAWN).usage.prompt_tokens


def test_several_prompts_are_as_if_each_was_alone(complete: Any, world: World) -> None:
    prompts = [PROMPT, "Two cups of flour"]
    both = complete(**DRAWN, prompt=prompts, n=2)
    each = [complete(**DRAWN, prompt=prompt, n=2) for prompt in prompts]
    texts = [choice.text for answer in each for choice in answer.choices]
    assert [choice.text for choice in both.choices] == texts
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(both.usage, name) == sum(getattr(one.usage, name) for one in each)


def test_token_ids_are_taken_as_they_are(complete: Any, world: World) -> None:
    ids = [encode_text(world.model, prompt) for prompt in (PROMPT, "Two cups")]
    text = complete(temperature=0).choices[0].text
    assert complete(temperature=0, prompt=ids[0]).choices[0].text == text
    several = complete(temperature=0, prompt=ids)
    assert several.choices[0].text == text and len(several.choices) == 2
    assert complete(temperature=0, prompt=[float(one) for one in ids[0]]).choices[0].text == text
    bare = complete(temperature=0, prompt=ids[0][1:])
    assert bare.usage.prompt_tokens == len(ids[0]) - 1


@pytest.mark.parametrize("as_list", [False, True])
def test_a_stop_string_ends_a_text(complete: Any, as_list: bool) -> None:
    text = complete(temperature=0).choices[0].text
    stop = text[6:9]
    answer = complete(temperature=0, stop=["never", stop] if as_list else stop)
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < 20
    streamed = list(complete(temperature=0, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text
    assert streamed[-1].choices[0].finish_reason == "stop"


def test_penalties_keep_texts_from_repeating(complete: Any) -> None:
    def tokens(**fields: Any) -> list[str]:
        return (
            complete(temperature=0, max_tokens=40, logprobs=0, **fields).choices[0].logprobs.tokens
        )

    plain = tokens()
    assert len(set(plain)) < 40
    for name in ("presence_penalty", "frequency_penalty"):
        assert len(set(tokens(**{name: 2.0}))) > len(set(plain))
        assert tokens(**{name: 0.0}) == plain


def test_logprobs_in_the_legacy_shape(complete: Any) -> None:
    answer = complete(**DRAWN, logprobs=3)
    choice, told = answer.choices[0], answer.choices[0].logprobs
    assert choice.text == complete(**DRAWN).choices[0].text
    assert len(told.tokens) == len(told.token_logprobs) == answer.usage.completion_tokens
    assert told.text_offset[0] == 0 and told.text_offset == sorted(told.text_offset)
    for token, value, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert top[token] == value <= 0 and len(top) in (3, 4)
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        if token.isascii() and token.isalpha():
            assert choice.text[offset:].startswith(token)
    (only,) = complete(**DRAWN, logprobs=0, max_tokens=1).choices[0].logprobs.top_logprobs
    assert len(only) == 1


def test_fields_that_change_nothing_are_taken(complete: Any) -> None:
    text = complete(temperature=0).choices[0].text
    same = complete(temperature=0, user="me", best_of=1, echo=False, logit_bias={}, suffix=None)
    assert same.choices[0].text == text
