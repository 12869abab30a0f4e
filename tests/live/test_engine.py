"""Rows that come, go, fail and are cancelled, beside rows that must not notice."""

import random
from dataclasses import replace

import pytest
import torch

from app.errors import Invalid, Problem, Unavailable
from tests.live.reference import Reference, by_bridge, check_same, draw_edge, uniform_draw
from tests.live.world import SITES, TEXTS, World, entry, run
from worker.activations import capture
from worker.live import hooks
from worker.live.answer import Generation
from worker.live.cache import CacheShape, SlotCache
from worker.live.forward import BatchForward
from worker.live.rank import Rank
from worker.live.sharing import Sharing
from worker.live.steering import PREFILL, Edit, Terms
from worker.tokens import encode_text

SAES = ("1-post", "1-z", "1-standard", "1-act")


@pytest.fixture(scope="module")
def reference(world: World) -> Reference:
    return by_bridge(world)


def tokens(generation: Generation) -> list[int]:
    assert generation.problem is None
    return generation.answers[0].tokens


def alone(world: World, prompt: str, **request: object) -> list[int]:
    held = world.held(*SAES, slots=2)
    generation = world.generation(held, prompt, **request)
    run(held, generation)
    return tokens(generation)


def mixed_requests() -> list[dict]:
    """Greedy and sampled, steered at several sites or not, short and long."""
    chosen = random.Random(5)
    requests = []
    for i in range(18):
        steering = entry(
            sae=chosen.choice(SAES),
            feature=chosen.randrange(40),
            amount=3.0,
            method=chosen.choice(["add", "clamp", "orthogonal"]),
            positions=chosen.choice(["all", "prompt", "generated"]),
        )
        sampling = {"temperature": 1.2, "top_p": 0.9, "seed": i} if i % 3 else {}
        requests.append(
            {
                "prompt": chosen.choice(TEXTS),
                "interventions": [steering] if i % 4 else [],
                "max_new_tokens": 3 + i % 11,
                **sampling,
            }
        )
    return requests


def test_rows_that_join_and_leave_equal_one_at_a_time(world: World, reference: Reference) -> None:
    """Few slots, so that every slot is used by several requests; two arrive at every third step."""
    held = world.held(*SAES, slots=4)
    requests = mixed_requests()
    generations = [world.generation(held, **request) for request in requests]
    arriving, step = list(generations), 0
    while arriving or held.engine.running or held.engine.waiting:
        if step % 3 == 0:
            for generation in arriving[:2]:
                held.engine.submit(generation)
            arriving = arriving[2:]
        held.engine.step()
        step += 1
    for request, generation in zip(requests, generations, strict=True):
        _check(reference, request, generation)


def _check(reference: Reference, request: dict, generation: Generation) -> None:
    prompt, entries = generation.answers[0].prompt, request["interventions"]
    draw = edge = None
    if "seed" in request:
        settings = request["seed"], request["temperature"], request["top_p"]
        draw, edge = uniform_draw(*settings), draw_edge(*settings)
    theirs = reference.generate(prompt, entries, request["max_new_tokens"], draw)
    check_same(reference, prompt, entries, tokens(generation), theirs, edge)


def test_a_pair_is_the_steered_and_the_unsteered_text(world: World) -> None:
    held = world.held("1-post")
    steering = [entry(sae="1-post", feature=7, amount=6.0)]
    pair = world.generation(held, TEXTS[0], interventions=steering, baseline=True)
    run(held, pair)
    steered, baseline = pair.answers
    assert steered.tokens == alone(world, TEXTS[0], interventions=steering)
    assert baseline.tokens == alone(world, TEXTS[0])
    assert steered.tokens != baseline.tokens


def test_exact_answers_run_in_a_batch_of_one(world: World) -> None:
    held = world.held("1-post")
    steering = [entry(sae="1-post", feature=7, amount=6.0)]
    before = world.generation(held, TEXTS[1], max_new_tokens=5)
    exact = world.generation(held, TEXTS[0], interventions=steering, baseline=True, exact=True)
    after = world.generation(held, TEXTS[2], max_new_tokens=5)
    for generation in (before, exact, after):
        held.engine.submit(generation)
    while held.engine.running or held.engine.waiting:
        ended_before = exact.ended
        held.engine.step()
        if exact.joined and not ended_before:
            assert held.engine.running <= 1
            assert before.ended and not after.joined
    assert tokens(exact) == alone(world, TEXTS[0], interventions=steering)
    assert tokens(after) == alone(world, TEXTS[2], max_new_tokens=5)


def test_a_cancelled_row_leaves_at_the_next_step(world: World) -> None:
    held = world.held()
    first, second, third = (
        world.generation(held, text, max_new_tokens=30) for text in (TEXTS[0], TEXTS[1], TEXTS[2])
    )
    waiting = world.generation(held, TEXTS[3], max_new_tokens=30)
    for generation in (first, second, third):
        held.engine.submit(generation)
    held.engine.step()
    held.engine.submit(waiting)
    first.cancelled = waiting.cancelled = True
    assert {first, waiting} <= held.engine.step()
    assert (held.engine.running, held.engine.waiting) == (2, 0)
    assert first.answers[0].reason == waiting.answers[0].reason == "cancelled"
    assert not waiting.answers[0].tokens
    run(held)
    assert tokens(second) == alone(world, TEXTS[1], max_new_tokens=30)
    assert tokens(third) == alone(world, TEXTS[2], max_new_tokens=30)


def test_an_answer_that_takes_too_long_fails(world: World) -> None:
    held = world.held()
    late = world.generation(held, TEXTS[0], max_new_tokens=40)
    held.engine.submit(late)
    held.engine.step()
    late.submitted -= late.timeout_s + 1
    run(held)
    assert isinstance(late.problem, Unavailable) and "within" in late.problem.detail


def test_an_answer_whose_report_takes_too_long_fails(world: World) -> None:
    held = world.held("1-post", prefill_tokens=12)
    steering = [entry(sae="1-post", feature=7, amount=6.0)]
    late = world.generation(held, TEXTS[0], interventions=steering, report=True)
    held.engine.submit(late)
    while not late.answers[0].reason:
        held.engine.step()
    assert late.ended is None
    late.submitted -= late.timeout_s + 1
    run(held)
    assert isinstance(late.problem, Unavailable) and "within" in late.problem.detail


def test_an_exact_answer_to_a_long_prompt_has_the_batch_for_itself(world: World) -> None:
    held = world.held(prefill_tokens=8)
    exact = world.generation(held, TEXTS[0], exact=True)
    after = world.generation(held, "x", max_new_tokens=5)
    held.engine.submit(exact)
    held.engine.submit(after)
    while not exact.ended:
        held.engine.step()
        assert exact.ended or not after.joined
    run(held)
    assert tokens(exact) == alone(world, TEXTS[0])
    assert tokens(after) == alone(world, "x", max_new_tokens=5)


@pytest.mark.parametrize("name", ["world", "llama", "gemma"])
def test_long_prompts_are_processed_in_pieces_beside_others(
    name: str, request: pytest.FixtureRequest
) -> None:
    """A budget of 8 tokens a step; the window of Gemma's sliding layers is 16."""
    world: World = request.getfixturevalue(name)
    reference = by_bridge(world)
    held = world.held("1-post", "1-z", slots=3, prefill_tokens=8)
    steering = [
        entry(sae="1-post", feature=7, amount=5.0),
        entry(sae="1-z", feature=2, amount=4.0, method="clamp", positions="prompt"),
    ]
    cases = [
        ("x", []),
        (TEXTS[0] * 2, steering),
        ("The", []),
        (TEXTS[1], steering[:1]),
        (TEXTS[0], []),
        (TEXTS[4], steering),
    ]
    generations = [
        world.generation(held, text, interventions=case, max_new_tokens=9) for text, case in cases
    ]
    for generation in generations:
        held.engine.submit(generation)
    held.engine.step()
    assert held.engine.running == 3 and len(tokens(generations[0])) == 2
    run(held)
    for generation, (_, case) in zip(generations, cases, strict=True):
        prompt = generation.answers[0].prompt
        theirs = reference.generate(prompt, case, 9)
        check_same(reference, prompt, case, tokens(generation), theirs)
    assert max(len(generation.answers[0].prompt) for generation in generations) > 24


@pytest.mark.parametrize("name", ["world", "llama", "gemma"])
def test_pieces_have_the_logits_of_one_forward(name: str, request: pytest.FixtureRequest) -> None:
    """At every token, also where a piece begins far behind the sliding window; and the step after."""
    model = request.getfixturevalue(name).model
    ids = [2 + 7 * place % 300 for place in range(45)]
    forward = BatchForward(model, slots=2)
    with torch.inference_mode():
        plain = model.hf(torch.tensor([ids])).logits[0]
        pieces = [
            forward.piece(
                forward.long_room, ids[begin : begin + 6], begin, PREFILL, keep=len(ids[begin:][:6])
            )[0]
            for begin in range(0, 44, 6)
        ]
        torch.testing.assert_close(torch.cat(pieces)[:44], plain[:44], rtol=1e-4, atol=1e-4)
        forward.prefill(0, [ids[:44], ids[:3]], [(), ()])
        forward.append(0, torch.tensor([ids[44], ids[3]]))
        torch.testing.assert_close(forward.decode(2, 45), plain[[44, 3]], rtol=1e-4, atol=1e-4)


def test_a_long_prompt_that_ends_early_leaves_no_trace(world: World) -> None:
    """Cancelled, failing by what its SAE raises, and not finite: each before its prompt is done."""
    held = world.held("1-post", slots=2, prefill_tokens=8)
    running = world.generation(held, TEXTS[1], max_new_tokens=20)
    cancelled = world.generation(held, TEXTS[0])
    misread = world.generation(held, TEXTS[0])
    misplaced = replace(world.dictionary("1-act"), hook_name=SITES["post"])
    misread.answers[0].edits = (
        Edit(SITES["post"], torch.ones(32), Terms(read=-1.0), (True, False), misplaced),
    )
    huge = [entry(sae="1-post", feature=3, amount=3e38)]
    overflowing = world.generation(held, TEXTS[0], interventions=huge)
    good = world.generation(held, TEXTS[0])
    for generation in (running, cancelled, misread, overflowing, good):
        held.engine.submit(generation)
    held.engine.step()
    held.engine.step()
    cancelled.cancelled = True
    run(held)
    assert cancelled.answers[0].reason == "cancelled" and not cancelled.answers[0].tokens
    assert misread.problem is not None and not misread.answers[0].tokens
    assert isinstance(overflowing.problem, Invalid) and "finite" in overflowing.problem.detail
    assert tokens(good) == alone(world, TEXTS[0])
    assert tokens(running) == alone(world, TEXTS[1], max_new_tokens=20)


def test_numbers_that_overflow_fail_their_row_alone(world: World) -> None:
    """Neither the row beside it nor the one that gets its slot later sees anything of it."""
    held = world.held("1-post", slots=2)
    huge = [entry(sae="1-post", feature=3, amount=3e38, positions="generated")]
    good = world.generation(held, TEXTS[1])
    bad = world.generation(held, TEXTS[0], interventions=huge)
    run(held, good, bad)
    assert isinstance(bad.problem, Invalid) and "finite" in bad.problem.detail
    assert tokens(good) == alone(world, TEXTS[1])
    # A long row beside it makes the short one in that slot read beyond its own length.
    later = [world.generation(held, text, max_new_tokens=30) for text in (TEXTS[0], "x")]
    run(held, *later)
    assert tokens(later[1]) == alone(world, "x", max_new_tokens=30)


@pytest.mark.parametrize("name", ["world", "llama", "gemma"])
def test_what_an_edit_would_do_to_padding_does_not_count(
    name: str, request: pytest.FixtureRequest
) -> None:
    """An edit that overflows, under a condition that holds at pads and at no token of its row."""
    world: World = request.getfixturevalue(name)
    held = world.held("0-mlp", slots=2)
    feature = active_only_as_padding(world)
    overflowing = entry(
        hook=SITES["act"],
        vector=[1.0] * 48,
        amount=3e38,
        positions="prompt",
        when={"sae": "0-mlp", "feature": feature, "above": 0.0},
    )
    short = world.generation(held, "x", interventions=[overflowing])
    run(held, short, world.generation(held, TEXTS[0]))
    assert tokens(short) == alone(world, "x")


def active_only_as_padding(world: World) -> int:
    """A neuron of block 0 that a prefill of "x" beside a longer prompt sees at pads alone."""
    prompt, longer = (encode_text(world.model, text) for text in ("x", TEXTS[0]))
    real = len(prompt)
    padded = torch.tensor([prompt + [0] * (len(longer) - real)])
    hook = world.dictionary("0-mlp").hook_name
    active = capture(world.model, padded, [hook])[hook][0] > 0
    return int((~active[:real].any(0) & active[real:].any(0)).nonzero()[0])


def test_padding_that_is_no_number_is_not_stored(world: World) -> None:
    shape, cpu = CacheShape(1, 1, 4, 2), torch.device("cpu")
    cache = SlotCache(shape, 2, cpu, torch.float32, Sharing(world.model))
    state = torch.ones(2, 1, 3, 2)
    state[0, :, 2] = float("nan")
    real = torch.tensor([[True, True, False], [True, True, True]])
    cache.begin_prefill(0, 2, 3, real)
    cache.update(state, state, 0)
    stored = cache.keys[0][:, 0, :3, 0], cache.values[0][:, 0, :3, 0]
    assert all(torch.equal(buffer, real.float()) for buffer in stored)


def test_what_a_dictionary_raises_fails_its_row_alone(world: World) -> None:
    """An SAE that reads where it does not fit stands for whatever may go wrong in an edit."""
    held = world.held()
    misplaced = replace(world.dictionary("1-act"), hook_name=SITES["post"])
    edit = Edit(
        hook=SITES["post"],
        direction=torch.ones(32),
        terms=Terms(read=-1.0),
        phases=(False, True),
        dictionary=misplaced,
    )
    bad, good = world.generation(held, TEXTS[0]), world.generation(held, TEXTS[1])
    bad.answers[0].edits = (edit,)
    run(held, bad, good)
    assert bad.problem is not None and len(bad.answers[0].tokens) == 1
    assert tokens(good) == alone(world, TEXTS[1])


def test_what_a_dictionary_raises_while_a_row_joins_fails_that_row(world: World) -> None:
    """Others run already and another one joins with it."""
    held = world.held()
    running, bad, joining = (world.generation(held, text) for text in TEXTS[:3])
    misplaced = replace(world.dictionary("1-act"), hook_name=SITES["post"])
    bad.answers[0].edits = (
        Edit(SITES["post"], torch.ones(32), Terms(read=-1.0), (True, False), misplaced),
    )
    held.engine.submit(running)
    held.engine.step()
    run(held, bad, joining)
    assert bad.problem is not None and not bad.answers[0].tokens
    assert tokens(running) == alone(world, TEXTS[0])
    assert tokens(joining) == alone(world, TEXTS[2])


def test_a_failing_prefill_fails_only_who_fails_alone(world: World) -> None:
    """An edit of the wrong width stands for what may go wrong; it joins between two others."""
    held = world.held("1-post")
    running = world.generation(held, TEXTS[1], max_new_tokens=20)
    held.engine.submit(running)
    held.engine.step()
    steering = [entry(sae="1-post", feature=7, amount=6.0)]
    before = world.generation(held, TEXTS[3], interventions=steering, baseline=True)
    bad = world.generation(held, TEXTS[0], baseline=True)
    bad.answers[0].edits = (Edit(SITES["post"], torch.ones(5), Terms(push=1.0), (True, True)),)
    after = world.generation(held, TEXTS[2], temperature=1.2, seed=4)
    run(held, before, bad, after)
    assert isinstance(bad.problem, Problem)
    assert not any(answer.tokens for answer in bad.answers)
    assert tokens(running) == alone(world, TEXTS[1], max_new_tokens=20)
    assert tokens(before) == alone(world, TEXTS[3], interventions=steering)
    assert before.answers[1].tokens == alone(world, TEXTS[3])
    assert tokens(after) == alone(world, TEXTS[2], temperature=1.2, seed=4)
    site = held.engine._forward._steering._site(SITES["post"])
    assert not any(edit for rank in site.ranks for edit in rank.edits)


class FullMemory(Rank):
    """A rank that there is no memory for."""

    def __init__(self, *_: object) -> None:
        raise MemoryError("no room")


@pytest.mark.parametrize("first", ["1-post", "1-z"])
def test_edits_that_cannot_all_be_put_leave_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The slot's next row is unsteered, whichever of two sites had no memory."""
    held = world.held("1-post", "1-z")
    entries = [entry(sae=sae, feature=7, amount=6.0) for sae in ("1-post", "1-z")]
    run(
        held, world.generation(held, TEXTS[0], interventions=[e for e in entries if e.sae == first])
    )
    bad = world.generation(held, TEXTS[0], interventions=entries)
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "Rank", FullMemory)
        run(held, bad)
    assert isinstance(bad.problem, Unavailable) and "memory" in bad.problem.detail
    after = world.generation(held, TEXTS[1])
    run(held, after)
    assert tokens(after) == alone(world, TEXTS[1])


def test_a_long_prompt_whose_edits_cannot_be_put_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = world.held("1-post", prefill_tokens=8)
    running = world.generation(held, "x", max_new_tokens=20)
    bad = world.generation(
        held, TEXTS[0], interventions=[entry(sae="1-post", feature=7, amount=6.0)]
    )
    monkeypatch.setattr(hooks, "Rank", FullMemory)
    run(held, running, bad)
    assert isinstance(bad.problem, Unavailable) and "memory" in bad.problem.detail
    assert tokens(running) == alone(world, "x", max_new_tokens=20)


def test_a_failing_step_fails_the_batch_and_the_engine_goes_on(world: World) -> None:
    held = world.held()
    lost = [world.generation(held, text, max_new_tokens=20) for text in TEXTS[:3]]
    for generation in lost:
        held.engine.submit(generation)
    held.engine.step()

    def out_of_memory(*_args: object) -> None:
        raise MemoryError("no room")

    handle = world.model.hf.register_forward_pre_hook(out_of_memory)
    held.engine.step()
    handle.remove()
    assert all(isinstance(generation.problem, Unavailable) for generation in lost)
    after = world.generation(held, TEXTS[4])
    run(held, after)
    assert tokens(after) == alone(world, TEXTS[4])


def test_a_step_that_had_no_memory_is_done_again(world: World) -> None:
    held = world.held()
    ours = [world.generation(held, text, max_new_tokens=6) for text in TEXTS[:3]]
    for generation in ours:
        held.engine.submit(generation)
    held.engine.step()
    asked = []

    def out_of_memory(*_args: object) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise torch.OutOfMemoryError

    handle = world.model.hf.register_forward_pre_hook(out_of_memory)
    held.engine.step()
    handle.remove()
    run(held)
    for text, generation in zip(TEXTS[:3], ours, strict=True):
        assert tokens(generation) == alone(world, text, max_new_tokens=6)


def test_stop_string_eos_and_length_end_an_answer(world: World) -> None:
    held = world.held()
    full = world.generation(held, TEXTS[0], max_new_tokens=20)
    run(held, full)
    text, ids = full.answers[0].text.text, tokens(full)
    assert full.answers[0].reason == "length" and len(ids) == 20
    stop = text[6:9]
    stopped = world.generation(held, TEXTS[0], max_new_tokens=20, stop=["never", stop])
    ended = world.generation(held, TEXTS[0], max_new_tokens=20)
    ended.answers[0].eos_ids = frozenset([ids[8]])
    run(held, stopped, ended)
    assert stopped.answers[0].reason == "stop"
    assert stopped.answers[0].text.text == text.split(stop)[0]
    assert len(tokens(stopped)) < 20
    assert ended.answers[0].reason == "stop"
    assert tokens(ended) == ids[: ids.index(ids[8]) + 1]


def test_what_does_not_fit_is_refused(world: World) -> None:
    held = world.held()
    prompt = len(world.generation(held, TEXTS[0], max_new_tokens=1).answers[0].prompt)
    exactly = world.generation(held, TEXTS[0], max_new_tokens=64 - prompt)
    run(held, exactly)
    assert len(tokens(exactly)) == 64 - prompt
    with pytest.raises(Invalid, match=f"{prompt} tokens and max_new_tokens is {65 - prompt}"):
        world.generation(held, TEXTS[0], max_new_tokens=65 - prompt)
