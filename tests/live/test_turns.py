"""Requests that want much, beside others that must not wait for all of it."""

from itertools import count

from app.contract.live import SweepRequest
from app.settings import Settings
from tests.live.world import TEXTS, World, entry, run
from worker.live.answer import Generation
from worker.live.prepare import prepare_sweep
from worker.live.resident import Held


def sweep(world: World, held: Held, doses: int, **request: object) -> Generation:
    body = {
        "model": world.id,
        "prompt": TEXTS[0],
        "interventions": [entry(sae="1-post", feature=7, amount=1.0).model_dump()],
        "strengths": list(range(doses)),
        "max_new_tokens": 8,
        **request,
    }
    return prepare_sweep(SweepRequest.model_validate(body), held, Settings())


def run_until(held: Held, *generations: Generation) -> None:
    for generation in generations:
        held.engine.submit(generation)
    while not all(generation.ended for generation in generations):
        held.engine.step()


def texts_done(generation: Generation) -> int:
    return sum(answer.reason is not None for answer in generation.answers)


def receipts_done(generation: Generation) -> int:
    return sum(answer.receipt is not None for answer in generation.answers)


def tokens(generation: Generation) -> list[list[int]]:
    assert generation.problem is None
    return [answer.tokens for answer in generation.answers]


def alone(world: World, *texts: str, **request: object) -> list[list[int]]:
    held = world.held("1-post", slots=2)
    generations = [world.generation(held, text, **request) for text in texts]
    for generation in generations:
        run(held, generation)
    return [tokens(generation)[0] for generation in generations]


def test_who_comes_after_a_sweep_waits_for_two_of_its_answers(world: World) -> None:
    held = world.held("1-post", slots=4)
    much = sweep(world, held, doses=20)
    held.engine.submit(much)
    held.engine.step()
    pairs = [world.generation(held, text, baseline=True, max_new_tokens=8) for text in TEXTS[1:3]]
    run_until(held, *pairs)
    assert texts_done(much) <= 8
    run(held)
    assert texts_done(much) == receipts_done(much) == 20
    for pair, text in zip(pairs, alone(world, *TEXTS[1:3], max_new_tokens=8), strict=True):
        assert tokens(pair) == [text, text]


def test_two_sweeps_share_the_batch(world: World) -> None:
    held = world.held("1-post", slots=4)
    first, second = (sweep(world, held, doses=12) for _ in range(2))
    held.engine.submit(first)
    held.engine.submit(second)
    while held.engine.waiting:
        assert abs(texts_done(first) - texts_done(second)) <= 4
        held.engine.step()
    run(held)
    assert tokens(first) == tokens(second)


def test_a_report_does_not_wait_for_all_those_of_a_sweep(world: World) -> None:
    held = world.held("1-post", slots=8, prefill_tokens=32)
    much = sweep(world, held, doses=8)
    held.engine.submit(much)
    while texts_done(much) < 8:
        held.engine.step()
    late = world.generation(held, TEXTS[1], report=True, max_new_tokens=2)
    run_until(held, late)
    assert receipts_done(much) < 5
    run(held)
    assert receipts_done(much) == 8
    assert late.answers[0].receipt


def test_short_prompts_pass_long_ones_that_wait_for_each_other(world: World) -> None:
    held = world.held("1-post", slots=4, prefill_tokens=8)
    long = [world.generation(held, TEXTS[0], max_new_tokens=3) for _ in range(3)]
    for generation in long:
        held.engine.submit(generation)
    short = [world.generation(held, "x", max_new_tokens=2) for _ in range(2)]
    run_until(held, *short)
    assert not long[1].joined and held.engine.waiting == 2
    run(held)
    first, *others = [generation.joined for generation in long]
    assert first and all(others) and sorted([first, *others]) == [first, *others]
    assert [tokens(g)[0] for g in long] == alone(world, *[TEXTS[0]] * 3, max_new_tokens=3)


def test_a_long_prompt_waits_for_no_short_one_that_comes_later(world: World) -> None:
    """Short ones fill every slot again and again; the next slot is the long one's all the same."""
    held = world.held(slots=2, prefill_tokens=8)
    for text in ("x", TEXTS[0]):
        held.engine.submit(world.generation(held, text, max_new_tokens=4))
    long = world.generation(held, TEXTS[0], max_new_tokens=2)
    held.engine.submit(long)
    for step in count():
        held.engine.submit(world.generation(held, "x", max_new_tokens=4))
        held.engine.step()
        if long.ended:
            break
        assert step < 60


def test_exact_answers_and_others_take_turns(world: World) -> None:
    """Three of each kind always wait; each gets on in the order in which it came."""
    held = world.held("1-post", slots=4)
    asked = [
        world.generation(held, TEXTS[i % 3], exact=i % 2 == 0, max_new_tokens=4) for i in range(24)
    ]
    for generation in asked[:6]:
        held.engine.submit(generation)
    for generation in asked[6:]:
        held.engine.submit(generation)
        while held.engine.waiting >= 6:
            held.engine.step()
    run(held)
    ended = [generation.ended for generation in asked if generation.ended]
    assert ended == sorted(ended) and len(ended) == 24
    texts = alone(world, *TEXTS[:3], max_new_tokens=4)
    assert [tokens(generation)[0] for generation in asked] == texts * 8
