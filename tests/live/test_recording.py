"""Decode steps replayed from recordings, against the same ones computed as they come."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from app.errors import Problem
from tests.live.world import SITES, TEXTS, World, entry, run
from worker.live.answer import Generation
from worker.live.recording import Replay

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero")
"""Operations for which the host waits for the device: CUDA records no graph of them."""


class Tape(TorchDispatchMode):
    """Records as CUDA graphs do: operations and addresses, and nothing that Python decides. A replay
    does each operation again and leaves its result where it was when it was recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again, _ = tree_flatten(func(*args, **kwargs))
            before, _ = tree_flatten(result)
            for new, old in zip(again, before, strict=True):
                if isinstance(old, torch.Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


class Recorder:
    """Records on tapes, and counts."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.replays = 0

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Replay:
        compute()
        tape = Tape()
        with tape:
            result = compute()
        self.tapes.append(tape)

        def replay() -> torch.Tensor:
            self.replays += 1
            tape.replay()
            return result

        return replay


def crowd(world: World, record: Recorder | None) -> list[Generation]:
    """More requests than slots, with other steering and lengths each; two arrive at a time."""
    held = world.held(*SAES, slots=6, record=record)
    generations = [world.generation(held, **request) for request in REQUESTS]
    arriving = list(generations)
    while arriving or held.engine.running or held.engine.waiting:
        for generation in arriving[:2]:
            held.engine.submit(generation)
        arriving = arriving[2:]
        held.engine.step()
    return generations


SAES = ("1-post", "1-z", "1-act", "1-mid")
ENTRIES = (
    [],
    [entry(sae="1-post", feature=3, amount=4.0)],
    [entry(sae="1-z", feature=9, amount=-4.0, positions="generated")],
    [entry(sae="1-act", feature=1, amount=0.5, method="cap", skip_special_tokens=True)],
    [entry(sae="1-post", feature=i, amount=3.0, method="orthogonal") for i in (5, 6)],
    [entry(sae="1-post", feature=7, amount=3.0, positions="prompt")],
)
REQUESTS = [
    {
        "prompt": TEXTS[i % len(TEXTS)],
        "interventions": ENTRIES[i % len(ENTRIES)],
        "max_new_tokens": 5 + 3 * (i % 5),
        "temperature": 1.1 * (i % 2),
        "seed": i,
    }
    for i in range(11)
]


@pytest.mark.parametrize("name", ["world", "llama", "gemma"])
def test_replayed_steps_equal_computed_ones(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    recorder = Recorder()
    replayed, computed = crowd(world, recorder), crowd(world, None)
    assert recorder.replays > 20
    for ours, theirs in zip(replayed, computed, strict=True):
        assert ours.problem is None
        assert ours.answers[0].tokens == theirs.answers[0].tokens


def test_a_recording_steers_where_nobody_did_when_it_was_made(world: World) -> None:
    """The second request has all recorded anew, without an edit at the first one's site."""
    recorder = Recorder()
    held = world.held(*SAES, record=recorder)
    steered = [[entry(sae=sae, feature=3, amount=6.0)] for sae in ("1-post", "1-z", "1-post")]
    texts: list[list[int]] = []
    for entries in [[], *steered]:
        made = len(recorder.tapes)
        generation = world.generation(held, TEXTS[0], interventions=entries)
        run(held, generation)
        texts.append(generation.answers[0].tokens)
    assert len(recorder.tapes) == made
    assert texts[3] == texts[1] != texts[0]


def test_nothing_in_a_step_waits_for_the_device(world: World) -> None:
    recorder = Recorder()
    crowd(world, recorder)
    names = {str(func) for tape in recorder.tapes for func, *_ in tape.calls}
    assert any("index_put" in name for name in names)
    assert not [name for name in names if any(wait in name for wait in WAITS)]


def test_what_reads_activations_is_computed_as_it_comes(world: World) -> None:
    recorder = Recorder()
    held = world.held(*SAES, record=recorder)
    clamped = entry(sae="1-post", feature=3, amount=4.0, method="clamp")
    steered = entry(sae="1-post", feature=3, amount=4.0)
    before = recorder.replays
    run(held, world.generation(held, TEXTS[0], interventions=[clamped]))
    run(held, world.generation(held, TEXTS[0], interventions=[steered] * 3))
    assert recorder.replays == before
    generation = world.generation(held, TEXTS[0], interventions=[steered])
    run(held, generation)
    assert recorder.replays == before + 11
    plain = world.held(*SAES)
    alone = world.generation(plain, TEXTS[0], interventions=[steered])
    run(plain, alone)
    assert generation.answers[0].tokens == alone.answers[0].tokens


def test_a_failed_row_leaves_its_successor_alone(world: World) -> None:
    held = world.held(*SAES, slots=2, record=Recorder())
    endless = entry(
        hook=SITES["post"], vector=[1e38] * world.model.d_model, amount=1e38, positions="generated"
    )
    broken = world.generation(held, TEXTS[0], interventions=[endless])
    run(held, broken)
    assert isinstance(broken.problem, Problem)
    plain, after = (world.generation(one, TEXTS[1]) for one in (world.held(), held))
    run(held, after)
    run(world.held(), plain)
    assert after.problem is None
    assert after.answers[0].tokens == plain.answers[0].tokens


def test_a_device_that_cannot_record_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_compute: Callable[[], torch.Tensor]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with caplog.at_level(logging.WARNING):
        held = world.held(record=refuse)
        generation, plain = world.generation(held, TEXTS[0]), world.held()
        run(held, generation)
    alone = world.generation(plain, TEXTS[0])
    run(plain, alone)
    assert generation.answers[0].tokens == alone.answers[0].tokens
    (told,) = [record.getMessage() for record in caplog.records]
    assert "cannot be recorded" in told and "\n" not in told
