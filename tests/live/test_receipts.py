"""What a report says of a steered text is what TransformerLens and SAELens say of it."""

import itertools
from dataclasses import replace

import pytest
import torch

from app.contract.steering import Intervention
from app.errors import Invalid
from tests.live.reference import Reference, by_bridge
from tests.live.world import SITES, TEXTS, World, entry, run
from worker.live.answer import Generation
from worker.live.receipt import Receipt
from worker.live.receipts import _Maker
from worker.live.resident import Held
from worker.live.steering import Edit, Gate

CASES = {
    "two at one site": [
        entry(sae="1-standard", feature=3, method="clamp", amount=4.0),
        entry(sae="1-post", feature=7, amount=5.0, positions="generated"),
    ],
    "prompt only": [entry(sae="1-pre", feature=2, amount=6.0, positions="prompt")],
    "two sites": [
        entry(sae="1-z", feature=2, amount=3.0, method="clamp"),
        entry(sae="1-topk", feature=9, method="ablate", amount=0.0),
    ],
    "transcoder": [entry(sae="1-transcoder", feature=4, amount=3.0)],
    "vector": [entry(hook="blocks.0.hook_resid_post", vector=[0.7, -0.4] * 16, amount=2.0)],
    "nothing": [],
}


@pytest.fixture(scope="module", params=["world", "llama"])
def reference(request: pytest.FixtureRequest) -> Reference:
    return by_bridge(request.getfixturevalue(request.param))


def reported(
    world: World, entries: list[Intervention], prefill_tokens: int, text: str = TEXTS[0]
) -> Generation:
    saes = {name for one in entries for name in one.saes}
    held = world.held(*saes, prefill_tokens=prefill_tokens)
    generation = world.generation(
        held, text, interventions=entries, baseline=True, report=True, temperature=1.0, seed=3
    )
    others = [world.generation(held, other, max_new_tokens=9) for other in TEXTS[1:4]]
    run(held, generation, *others)
    assert generation.problem is None and generation.ended
    return generation


def receipt_of(generation: Generation) -> Receipt:
    steered, baseline = generation.answers
    assert baseline.receipt is None and steered.receipt is not None
    return steered.receipt


@pytest.mark.parametrize("prefill_tokens", [1024, 12])
@pytest.mark.parametrize("name", CASES)
def test_a_receipt_equals_the_reference(
    reference: Reference, name: str, prefill_tokens: int
) -> None:
    entries = CASES[name]
    generation = reported(reference.world, entries, prefill_tokens)
    receipt, steered = receipt_of(generation), generation.answers[0]
    ids, prompt = steered.prompt + steered.tokens, len(steered.prompt)
    check_distributions(reference, receipt, ids, prompt, entries)
    for hook, site in receipt.sites.items():
        before, after = (x.double() for x in reference.around(ids, prompt, entries, hook))
        close(site.norm_before, before.norm(dim=1))
        close(site.norm_after, after.norm(dim=1))
        cosine = torch.cosine_similarity(before, after, dim=1)
        # The cosine of a small angle says little of it: rounding alone is a hundredth of a degree.
        angle = cosine.clamp(max=1).acos().rad2deg().where((before != after).any(1), 0)
        close(site.angle, angle, atol=0.05)
    places = [place for place, one in enumerate(entries) if one.sae]
    assert sorted(receipt.features) == places
    for place in places:
        check_feature(reference, receipt, place, ids, prompt, entries)


def check_distributions(
    reference: Reference, receipt: Receipt, ids: list[int], prompt: int, entries: list[Intervention]
) -> None:
    kl, logprobs = [], []
    for end in range(prompt, len(ids)):
        p = reference.logits(ids[:end], prompt, entries).double().log_softmax(-1)
        q = reference.logits(ids[:end], prompt, []).double().log_softmax(-1)
        kl.append(float((p.exp() * (p - q)).sum()))
        logprobs.append([float(p[ids[end]]), float(q[ids[end]])])
    close(receipt.kl, torch.tensor(kl), atol=2e-4)
    steered, unsteered = torch.tensor(logprobs).T
    close(receipt.perplexity, torch.stack([-steered.mean(), -unsteered.mean()]).exp(), rtol=1e-3)
    assert (max(kl) > 0.02) == bool(entries)


def check_feature(
    reference: Reference,
    receipt: Receipt,
    place: int,
    ids: list[int],
    prompt: int,
    entries: list[Intervention],
) -> None:
    one = entries[place]
    sae = reference.world.sae_lens(one.sae)
    states = reference.around(ids, prompt, entries, sae.cfg.metadata.hook_name)
    scale = sae.W_dec[one.feature].norm()
    before, after = ((sae.encode(x)[:, one.feature] * scale).detach() for x in states)
    close(receipt.features[place].before, before)
    close(receipt.features[place].after, after)


def close(ours: list[float] | tuple[float, ...], theirs: torch.Tensor, **tolerance: float) -> None:
    found = torch.tensor(ours, dtype=theirs.dtype)
    torch.testing.assert_close(found, theirs, **({"rtol": 1e-4, "atol": 1e-3} | tolerance))


def test_a_receipt_that_is_not_finite_fails_its_request_alone(reference: Reference) -> None:
    """No token is drawn behind the last one, so only the receipt sees what steering makes of it."""
    world = reference.world
    held = world.held("1-post")
    huge = [entry(sae="1-post", feature=5, amount=3e38, positions="generated")]
    bad = world.generation(held, TEXTS[0], interventions=huge, report=True, max_new_tokens=1)
    good = [
        world.generation(held, TEXTS[1], interventions=CASES["nothing"], report=True)
        for _ in range(2)
    ]
    run(held, bad, good[0])
    assert isinstance(bad.problem, Invalid) and "finite" in bad.problem.detail
    run(held, good[1])
    first, second = (receipt_of_one(generation) for generation in good)
    close(first.steered, torch.tensor(second.steered))
    assert not edits_left(held)


def receipt_of_one(generation: Generation) -> Receipt:
    (answer,) = generation.answers
    assert answer.receipt is not None
    return answer.receipt


def test_who_leaves_while_its_receipt_is_made_is_let_go(world: World) -> None:
    held = world.held("1-pre", prefill_tokens=12)
    entries = [entry(sae="1-pre", feature=2, amount=6.0)]
    leaving = world.generation(held, TEXTS[0], interventions=entries, report=True)
    staying = world.generation(held, TEXTS[0], interventions=entries, report=True)
    held.engine.submit(leaving)
    held.engine.submit(staying)
    while not leaving.answers[0].reason:
        held.engine.step()
    assert leaving.ended is None and held.engine.running
    leaving.cancelled = True
    assert leaving in held.engine.step()
    run(held)
    assert leaving.answers[0].receipt is None and staying.answers[0].receipt is not None
    assert not edits_left(held)


def test_a_long_prompt_that_fails_in_its_last_piece_leaves_no_edits(world: World) -> None:
    held = world.held("1-pre", prefill_tokens=12)
    bad = world.generation(held, TEXTS[0], interventions=[entry(sae="1-pre", feature=2)])
    held.engine.submit(bad)
    length, done = len(bad.answers[0].prompt), 0
    held.engine.step()
    while done + 6 < length:
        held.engine.step()
        done += 6

    def out_of_memory(*_: object) -> None:
        raise MemoryError("no room")

    handle = world.model.hf.register_forward_pre_hook(out_of_memory)
    held.engine.step()
    handle.remove()
    assert bad.problem is not None and not bad.answers[0].tokens
    assert not edits_left(held)


def test_what_an_sae_raises_while_a_receipt_is_made_fails_the_request(world: World) -> None:
    """An SAE that reads where it does not fit, on the second reading of the text only."""
    held = world.held("1-pre", prefill_tokens=12)
    one = world.generation(
        held, TEXTS[0], interventions=[entry(sae="1-pre", feature=2)], report=True
    )
    other = world.generation(held, TEXTS[1])
    held.engine.submit(one)
    held.engine.submit(other)
    while not one.answers[0].tokens:
        held.engine.step()
    misplaced = replace(world.dictionary("1-act"), hook_name=SITES["pre"])
    (edit,) = one.answers[0].edits
    one.answers[0].edits = (replace(edit, gate=Gate(misplaced, 1, 0.0), dictionary=None),)
    run(held)
    assert one.problem is not None and one.answers[0].receipt is None
    assert other.problem is None and not edits_left(held)


def test_who_leaves_last_takes_the_edits_of_its_receipt_along(world: World) -> None:
    held = world.held("1-pre", prefill_tokens=12)
    entries = [entry(sae="1-pre", feature=2, amount=6.0)]
    leaving = world.generation(held, TEXTS[0], interventions=entries, report=True)
    held.engine.submit(leaving)
    while not edits_left(held) or not leaving.answers[0].reason:
        held.engine.step()
    leaving.cancelled = True
    run(held)
    assert leaving.answers[0].receipt is None and not edits_left(held)


def edits_left(held: Held) -> list[Edit]:
    """Edits that any slot still has."""
    return [edit for row in held.engine._forward._steering._rows for edit in row]


def test_nothing_of_a_receipt_or_a_long_prompt_stays_behind(world: World) -> None:
    held = world.held("1-pre", prefill_tokens=12)
    entries = [entry(sae="1-pre", feature=2, amount=6.0)]
    run(held, world.generation(held, TEXTS[0], interventions=entries, report=True))
    assert not edits_left(held)
    leaving = world.generation(held, TEXTS[0], interventions=entries)
    held.engine.submit(leaving)
    held.engine.step()
    held.engine.step()
    assert edits_left(held) and not leaving.answers[0].tokens
    leaving.cancelled = True
    run(held)
    assert not edits_left(held)


def test_sites_come_in_the_order_of_the_entries(world: World) -> None:
    for saes in (
        ["1-post", "1-z", "1-pre"],
        ["1-pre", "1-z", "1-post"],
        ["1-z", "1-post", "1-pre"],
    ):
        entries = [entry(sae=sae, feature=2, amount=1.0) for sae in saes]
        receipt = receipt_of(reported(world, entries, 1024))
        assert list(receipt.sites) == [world.dictionary(sae).hook_out for sae in saes]


def test_a_vector_that_did_not_change_was_not_turned(world: World) -> None:
    """Nor one of zeros, which has no direction."""
    made = _Maker(world.generation(world.held(), "x").answers[0])
    for state in (torch.zeros(1, 4), torch.ones(1, 4)):
        made._note_site("hook", state, state)
    assert made._receipt.sites["hook"].angle == pytest.approx([0.0, 0.0], abs=1e-4)


def test_special_tokens_in_an_answer_are_left_alone(world: World) -> None:
    """A model that is made to write BOS, and an entry that acts on all but special tokens."""
    held = world.held("1-pre")
    bos = world.model.bos_id
    write_bos = entry(
        hook="blocks.2.hook_resid_post",
        vector=world.model.hf.get_output_embeddings().weight[bos].tolist(),
        amount=1e3,
    )
    skipping = entry(sae="1-pre", feature=7, amount=30.0, skip_special_tokens=True)
    one = world.generation(
        held, TEXTS[0], interventions=[write_bos, skipping], max_new_tokens=4, report=True
    )
    run(held, one)
    (answer,) = one.answers
    assert answer.tokens == [bos] * 4 and answer.receipt is not None
    site = answer.receipt.sites["blocks.1.hook_resid_pre"]
    special = [token == bos for token in answer.prompt + answer.tokens]
    same = [a == b for a, b in zip(site.norm_before, site.norm_after, strict=True)]
    assert same == special


def test_a_divergence_is_never_negative(world: World) -> None:
    receipt = receipt_of(reported(world, [entry(sae="1-post", feature=7, amount=1e-4)], 1024))
    assert min(receipt.kl) >= 0


def test_entries_of_one_dictionary_are_read_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TopK dictionary encodes all its features for any one of them."""
    encoder, passes = world.dictionary("1-topk").encoder, []
    columns = encoder.columns
    monkeypatch.setattr(encoder, "columns", lambda x, f: passes.append(len(f)) or columns(x, f))
    for count in (1, 8):
        held = world.held("1-topk")
        entries = [entry(sae="1-topk", feature=i, amount=0.1) for i in range(count)]
        run(held, world.generation(held, TEXTS[0], interventions=entries, report=True))
        passes.append(0)
    few, many = (len(list(own)) for zero, own in itertools.groupby(passes, bool) if zero)
    assert many <= 2 * few
