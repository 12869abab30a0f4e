"""Choices for prompts: rows, penalties and log probabilities, against plain forwards."""

from typing import Any

import orjson
import pytest
import torch

from app.contract.complete import CompleteAnswer, CompleteEvent, CompleteRequest
from app.contract.steering import Intervention
from app.errors import Invalid, TooLarge, from_body
from app.settings import Settings
from tests.live.process import LiveProcess
from tests.live.reference import NEAR, by_bridge
from tests.live.world import TEXTS, World, entry, run
from worker.live.answer import Generation
from worker.live.choices import complete_answer
from worker.live.complete import prepare_complete
from worker.live.logprobs import LEAST, logprobs_of
from worker.live.resident import Held
from worker.tokens import encode_text

DRAWN = {"temperature": 1.2, "top_p": 0.9}
STEERED = [entry(sae="1-post", feature=7, amount=5.0)]


def request(world: World, **fields: Any) -> CompleteRequest:
    asked = {"prompts": [TEXTS[0]], "seeds": [3], "max_new_tokens": 10} | fields
    return CompleteRequest(model=world.id, **asked)


def completed(
    world: World, held: Held, interventions: list[Intervention] | None = None, **fields: Any
) -> Generation:
    """A generation that has run beside another one."""
    asked = request(world, interventions=interventions or [], **fields)
    generation = prepare_complete(asked, held, Settings())
    run(held, world.generation(held, TEXTS[1], temperature=1.0, seed=9), generation)
    assert generation.problem is None
    return generation


@pytest.mark.parametrize("interventions", [[], STEERED])
def test_logprobs_are_those_of_a_plain_forward(
    world: World, interventions: list[Intervention]
) -> None:
    """Of the steered model at temperature 1, whatever the tokens are drawn by."""
    held = world.held("1-post")
    drawing = DRAWN | {"presence_penalty": 1.0, "frequency_penalty": 0.5}
    asked = {"logprobs": 4, "seeds": [3, 4], "interventions": interventions, **drawing}
    generation = completed(world, held, **asked)
    reference = by_bridge(world)
    for answer in generation.answers:
        for step, (token, told) in enumerate(zip(answer.tokens, answer.logprobs, strict=True)):
            before = [*answer.prompt, *answer.tokens[:step]]
            logits = reference.logits(before, len(answer.prompt), interventions)
            right = logits.double().log_softmax(-1)
            assert told.value == pytest.approx(float(right[token]), abs=1e-4)
            best = right.topk(4)
            assert [value for _, value in told.top] == pytest.approx(best.values.tolist(), abs=1e-4)
            for (place, value), other in zip(told.top, best.indices.tolist(), strict=True):
                assert place == other or value - float(right[other]) < NEAR * 10


def test_tokens_are_the_same_with_and_without_logprobs(world: World) -> None:
    held = world.held("1-post")
    plain = completed(world, held, STEERED, seeds=[1, 2], **DRAWN)
    told = completed(world, held, STEERED, seeds=[1, 2], logprobs=0, **DRAWN)
    assert [one.tokens for one in plain.answers] == [one.tokens for one in told.answers]
    assert all(one.logprobs == [] for one in plain.answers)
    assert all(each.top == [] for one in told.answers for each in one.logprobs)


def test_choices_equal_single_answers(world: World) -> None:
    """Whatever runs beside them; the first also equals what steering answers."""
    held = world.held("1-post")
    prompts = [TEXTS[0], TEXTS[1]]
    many = completed(world, held, STEERED, prompts=prompts, seeds=[1, 2, 3], **DRAWN)
    places = [(prompt, seed) for prompt in prompts for seed in (1, 2, 3)]
    for (prompt, seed), answer in zip(places, many.answers, strict=True):
        alone = world.generation(held, prompt, interventions=STEERED, seed=seed,
                                 max_new_tokens=10, **DRAWN)  # fmt: skip
        run(held, alone)
        assert answer.tokens == alone.answers[0].tokens
    told = orjson.loads(b"".join(complete_answer(many, request(world, seeds=[1, 2, 3]))))
    lengths = [len(encode_text(world.model, prompt)) for prompt in prompts]
    assert told["usage"] == {"prompt_tokens": sum(lengths), "completion_tokens": 60}


def test_greedy_penalties_by_their_definition(world: World) -> None:
    held = world.held()
    penalties = {"presence_penalty": 0.7, "frequency_penalty": 0.4}
    (answer,) = completed(world, held, temperature=0.0, max_new_tokens=30, **penalties).answers
    reference = by_bridge(world)
    for step, token in enumerate(answer.tokens):
        before = answer.tokens[:step]
        logits = reference.logits([*answer.prompt, *before], len(answer.prompt), []).double()
        for other in set(before):
            logits[other] -= 0.7 + 0.4 * before.count(other)
        assert float(logits.max() - logits[token]) < NEAR * 10
    (plain,) = completed(world, held, temperature=0.0, max_new_tokens=30).answers
    assert answer.tokens != plain.tokens


def test_what_fits_is_as_much_as_there_is_room_for(world: World) -> None:
    held = world.held()
    prompt = encode_text(world.model, TEXTS[1])
    asked = request(world, prompts=[prompt, prompt[:2]], max_new_tokens=1_000, fit=True)
    answers = prepare_complete(asked, held, Settings()).answers
    assert [len(one.prompt) + one.max_new_tokens for one in answers] == [64, 64]
    with pytest.raises(Invalid, match="together they may be 64"):
        prepare_complete(request(world, prompts=[[3] * 64], fit=True), held, Settings())


def test_prompts_have_a_limit_together(world: World) -> None:
    settings = Settings(max_request_tokens=20)
    asked = request(world, prompts=[[3] * 12, [3] * 12])
    with pytest.raises(TooLarge, match=r"up to prompts\[1\] have more tokens together than the 20"):
        prepare_complete(asked, world.held(), settings)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompts": None}, "either"),
        ({"prompts": []}, "either"),
        ({"prompts": [[]]}, "no tokens"),
        ({"prompts": [[100_000]]}, "no embedding"),
        ({"seeds": []}, "seeds"),
        ({"logprobs": -1}, "logprobs"),
        ({"temperature": -1}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"messages": [], "prompts": None}, "chat template"),
    ],
)
def test_bad_input_gets_a_sentence(
    live: LiveProcess, world: World, change: dict[str, Any], sentence: str
) -> None:
    asked = {"model": world.id, "prompts": ["x"], "seeds": [1]} | change
    response = live.client.post("/complete", json=asked)
    assert response.status_code == 422, response.text
    assert sentence in from_body(response.json()).detail


def test_a_stream_is_the_answer_in_pieces(live: LiveProcess, world: World) -> None:
    """Also where tokens cut characters apart."""
    asked = {"model": world.id, "prompts": [TEXTS[0], "x"], "seeds": [1, 2], "max_new_tokens": 40,
             "temperature": 3.0, "logprobs": 1}  # fmt: skip
    whole = CompleteAnswer.model_validate(live.post("/complete", asked))
    with live.client.stream("POST", "/complete", json=asked | {"stream": True}) as response:
        lines = response.read().splitlines()
    *deltas, last = [CompleteEvent.model_validate_json(line) for line in lines]
    assert last.event == "done" and last.usage == whole.usage
    for place, choice in enumerate(whole.choices):
        own = [delta for delta in deltas if delta.choice == place]
        assert "".join(delta.text for delta in own) == choice.text
        assert [delta.finish_reason for delta in own][-1] == choice.finish_reason
        assert all(delta.finish_reason is None for delta in own[:-1])
        tokens = [one.token for delta in own for one in delta.logprobs or ()]
        assert tokens == [one.token for one in choice.logprobs or ()]


def test_of_infinity_it_says_a_number() -> None:
    logits = torch.tensor([[0.0, -1e30, 1.0]])
    (told,) = logprobs_of(logits, torch.tensor([1]), [5])
    assert told is not None and told.value == LEAST
    assert [token for token, _ in told.top] == [2, 0, 1]
