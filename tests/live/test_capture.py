"""Activations equal SAELens' own encode on the same residuals, in folded units."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import Invalid
from tests.live.world import KINDS, SITES, TEXTS, World
from worker.live.capture import CaptureJob, CaptureQueue
from worker.live.kinds import OfSae
from worker.live.residuals import ResidualCache
from worker.live.strongest import Strongest, strongest
from worker.tokens import encode_text

TOLERANCE = 1e-5


def reading(world: World, sae: str, features: tuple[int, ...] | None = None, k: int = 8) -> OfSae:
    return OfSae(sae, world.dictionary(sae), features, k)


def ids(world: World, *texts: str) -> list[list[int]]:
    return [encode_text(world.model, text) for text in texts]


def finish(world: World, *jobs: CaptureJob, budget: int = 64) -> int:
    """Run jobs together; how many batches it took."""
    queue = CaptureQueue(world.model, budget)
    for job in jobs:
        queue.submit(job)
    batches = 0
    while queue.waiting:
        queue.step()
        batches += 1
    return batches


def alone(world: World, text: list[int], sae: str) -> np.ndarray:
    """SAELens' encode of one unpadded text's residuals, times the decoder rows' lengths."""
    dictionary = world.dictionary(sae)
    site = world.model.site(dictionary.hook_name)
    module = world.model.hf.get_submodule(site.module)
    seen: list[torch.Tensor] = []
    if site.side == "in":
        handle = module.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    else:
        handle = module.register_forward_hook(
            lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.no_grad():
        world.model.hf(torch.tensor([text]))
        handle.remove()
        own = world.sae_lens(sae)
        return (own.encode(seen[0][0]) * own.W_dec.norm(dim=-1)).numpy()


def dense(found: Strongest, tokens: int, width: int) -> np.ndarray:
    values = np.zeros((tokens, width), dtype=np.float32)
    values[found.token, found.feature] = found.value
    return values


@pytest.mark.parametrize("sae", [*(f"1-{kind}" for kind in KINDS), *(f"1-{s}" for s in SITES)])
def test_all_features_of_every_text_in_a_mixed_batch(world: World, sae: str) -> None:
    """Texts of many lengths, padded together with those of another job that reads other SAEs."""
    width = world.dictionary(sae).d_sae
    texts = ids(world, *TEXTS)
    job = CaptureJob(texts, [reading(world, sae, tuple(range(width)))])
    top = CaptureJob(texts[::-1], [reading(world, sae, None, width), reading(world, "1-pre")])
    finish(world, job, top, budget=100)
    for i, text in enumerate(texts):
        right = alone(world, text, sae)
        limit = TOLERANCE * np.abs(right).max()
        assert np.abs(job.answer.result()[i][sae] - right).max() <= limit
        found = top.answer.result()[-1 - i][sae]
        assert np.abs(dense(found, len(text), width) - np.maximum(right, 0)).max() <= limit


@pytest.mark.parametrize("budget", [1, 30, 64, 1000])
def test_every_padding_and_batch_mix_gives_the_same(world: World, budget: int) -> None:
    texts = ids(world, *TEXTS, *TEXTS[::-1])
    jobs = [
        CaptureJob([text], [reading(world, "1-topk", (3, 5)), reading(world, "1-standard")])
        for text in texts
    ]
    single = CaptureJob(texts, jobs[0].readings)
    finish(world, single, budget=1)
    finish(world, *jobs, budget=budget)
    for job, right in zip(jobs, single.answer.result(), strict=True):
        (own,) = job.answer.result()
        assert np.allclose(own["1-topk"], right["1-topk"], rtol=0, atol=1e-5)
        assert own["1-standard"].feature.tolist() == right["1-standard"].feature.tolist()
        assert np.allclose(own["1-standard"].value, right["1-standard"].value, rtol=0, atol=1e-5)


def test_jobs_take_turns(world: World) -> None:
    """A text a batch: three jobs, one of them small, all go on at the same pace."""
    readings = [reading(world, "1-topk")]
    jobs = [CaptureJob(ids(world, *[text] * count), readings) for text, count in
            ((TEXTS[0], 9), ("x", 2), (TEXTS[1], 9))]  # fmt: skip
    queue = CaptureQueue(world.model, budget=1)
    for job in jobs:
        queue.submit(job)
    for _ in range(6):
        queue.step()
    assert [len(job.todo) for job in jobs] == [7, 0, 7]
    assert jobs[1].answer.done()


def test_jobs_share_batches(world: World) -> None:
    texts = ids(world, "The old keeper climbed the stairs")
    jobs = [CaptureJob(texts, [reading(world, "1-topk")]) for _ in range(40)]
    together = 256 // len(texts[0])
    assert finish(world, *jobs, budget=256) == -(-40 // together)


def test_different_features_and_counts_in_one_batch(world: World) -> None:
    texts = ids(world, TEXTS[0])
    jobs = [
        CaptureJob(texts, [reading(world, "1-standard", (90, 2, 90))]),
        CaptureJob(texts, [reading(world, "1-standard", (5,))]),
        CaptureJob(texts, [reading(world, "1-standard", None, 1)]),
        CaptureJob(texts, [reading(world, "1-standard", None, 500)]),
    ]
    assert finish(world, *jobs, budget=1000) == 1
    right = alone(world, texts[0], "1-standard")
    columns, column, one, every = (job.answer.result()[0]["1-standard"] for job in jobs)
    assert np.allclose(columns, right[:, [90, 2, 90]], atol=1e-5)
    assert np.allclose(column, right[:, [5]], atol=1e-5)
    assert one.feature.tolist() == right.argmax(1)[right.max(1) > 0].tolist()
    assert len(every.value) == (right > 0).sum()


def test_strongest_are_sorted_active_and_ties_go_to_the_lower_index(world: World) -> None:
    neurons = world.dictionary("2-mlp")
    values = torch.tensor([[1.0, 3.0, 3.0, -1.0, 3.0, 0.0], [0.0, -2.0, 0.0, 0.0, 0.5, 0.5]])
    x = torch.zeros(2, 48)
    x[:, 10:16] = values
    found = strongest(neurons, x, 2)
    assert found.token.tolist() == [0, 0, 1, 1]
    assert found.feature.tolist() == [11, 12, 14, 15]
    assert found.value.tolist() == [3.0, 3.0, 0.5, 0.5]
    assert strongest(neurons, x, 4).feature.tolist() == [11, 12, 14, 10, 14, 15]


def test_what_an_sae_raises_fails_the_jobs_that_read_it(world: World) -> None:
    """An SAE that reads where it does not fit stands for whatever may go wrong while encoding."""
    texts = ids(world, TEXTS[0])
    misplaced = replace(world.dictionary("1-act"), hook_name=SITES["post"])
    bad = CaptureJob(texts, [OfSae("1-act", misplaced, (1,), 8), reading(world, "1-topk")])
    good = CaptureJob(texts, [reading(world, "1-topk")])
    finish(world, bad, good, budget=1000)
    assert bad.answer.exception() is not None
    assert good.answer.exception() is None


def test_a_failing_forward_fails_only_who_fails_alone(world: World) -> None:
    """The device runs out of memory for more than one text at a time, and for one of them."""
    good, bad, other = (
        CaptureJob(ids(world, text), [reading(world, "1-topk")]) for text in TEXTS[:3]
    )

    def out_of_memory(_module: object, args: tuple[torch.Tensor]) -> None:
        if len(args[0]) > 1 or args[0][0].tolist() == bad.texts[0]:
            raise MemoryError("no room")

    embedding = world.model.hf.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(out_of_memory)
    assert finish(world, good, bad, other, budget=1000) == 1
    handle.remove()
    assert isinstance(bad.answer.exception(), MemoryError)
    for job in (good, other):
        (values,) = job.answer.result()
        found = dense(values["1-topk"], len(job.texts[0]), 96)
        assert np.allclose(found, alone(world, job.texts[0], "1-topk"), atol=1e-4)


def test_numbers_that_are_not_finite_fail_the_jobs_whose_texts_have_them(world: World) -> None:
    """A token whose embedding is NaN spoils its text from there on, and no other."""
    poisoned = World(world.id, world.folder, world.saes)
    good, bad = ids(world, TEXTS[1], TEXTS[0])
    (token, *_) = set(bad) - set(good)
    next(poisoned.model.hf.parameters())[token] = torch.nan
    readings = {
        "top": reading(poisoned, "1-standard"),
        "columns": reading(poisoned, "1-standard", (1, 2)),
    }
    jobs = {name: CaptureJob([bad], [one]) for name, one in readings.items()}
    other = CaptureJob([good], [*readings.values()][:1])
    assert finish(poisoned, *jobs.values(), other, budget=1000) == 1
    for job in jobs.values():
        error = job.answer.exception()
        assert isinstance(error, Invalid)
        assert "not finite at blocks.1.hook_resid_post" in error.detail
        assert "SAESCOPE_DTYPE=float32" in error.detail
    assert other.answer.exception() is None


def test_a_text_that_was_just_read_needs_no_forward(world: World) -> None:
    queue, texts = CaptureQueue(world.model), ids(world, *TEXTS)
    first = CaptureJob(texts, [reading(world, "1-topk"), reading(world, "1-act", (1, 2))])
    queue.submit(first)
    while queue.waiting:
        queue.step()

    def never(*_: object) -> None:
        raise AssertionError("a forward")

    handle = world.model.hf.register_forward_pre_hook(never)
    again = CaptureJob(texts[::-1], [reading(world, "1-act", (2,)), reading(world, "1-standard")])
    queue.submit(again)
    while queue.waiting:
        queue.step()
    elsewhere = CaptureJob(texts[:1], [reading(world, "1-pre")])
    queue.submit(elsewhere)
    queue.step()
    handle.remove()
    assert isinstance(elsewhere.answer.exception(), AssertionError)
    for text, own, right in zip(texts[::-1], again.answer.result(), first.answer.result()[::-1],
                                strict=True):  # fmt: skip
        assert np.allclose(own["1-act"][:, 0], right["1-act"][:, 1], rtol=1e-5, atol=1e-6)
        values = dense(own["1-standard"], len(text), 96)
        limit = np.partition(alone(world, text, "1-standard"), -8, axis=1)[:, -8:-7]
        strong = np.maximum(alone(world, text, "1-standard"), 0)
        assert np.allclose(values, np.where(strong >= limit, strong, 0), rtol=1e-4, atol=1e-5)


def test_texts_that_are_kept_share_a_batch_with_new_ones(world: World) -> None:
    """Each gets its own states, in whatever order known and unknown texts come."""
    queue, texts = CaptureQueue(world.model, budget=1000), ids(world, *TEXTS)
    queue.submit(CaptureJob(texts[1::2], [reading(world, "1-standard", (1, 2))]))
    queue.step()
    mixed = CaptureJob(texts, [reading(world, "1-standard", tuple(range(96)))])
    queue.submit(mixed)
    queue.step()
    for text, own in zip(texts, mixed.answer.result(), strict=True):
        right = alone(world, text, "1-standard")
        assert np.abs(own["1-standard"] - right).max() <= TOLERANCE * np.abs(right).max()


def test_what_is_kept_of_a_text_keeps_no_batch(world: World) -> None:
    """The bytes that are counted are all that is in memory."""
    queue = CaptureQueue(world.model, budget=1000)
    queue.submit(CaptureJob(ids(world, *TEXTS), [reading(world, "1-standard")]))
    queue.step()
    kept = list(queue._cache._states.values())
    assert len(kept) == len(TEXTS)
    assert all(state.untyped_storage().nbytes() == state.nbytes for state in kept)
    assert queue._cache.n_bytes == sum(state.nbytes for state in kept)


def test_a_state_that_is_put_twice_counts_once() -> None:
    cache, state = ResidualCache(most_bytes=3 * 40), torch.ones(1, 10)
    for text in (1, 2, 2, 2, 3):
        cache.put((text,), "hook", state)
    assert all(cache.get((text,), ["hook"]) for text in (1, 2, 3))


def test_states_that_were_not_used_for_longest_go_first() -> None:
    cache, state = ResidualCache(most_bytes=3 * 40), torch.ones(1, 10)
    for text in (1, 2, 3):
        cache.put((text,), "hook", state)
    assert cache.get((1,), ["hook"])
    cache.put((4,), "hook", state)
    assert [text for text in (1, 2, 3, 4) if cache.get((text,), ["hook"])] == [1, 3, 4]
    assert cache.get((1,), ["hook", "other"]) is None
    cache.put((5,), "hook", torch.ones(1, 40))
    assert not any(cache.get((text,), ["hook"]) for text in range(6))
