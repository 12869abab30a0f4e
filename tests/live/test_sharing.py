"""Rows of one text run as one until they are steered, and get what they get when each runs for itself."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from app.contract.steering import Intervention
from tests.live.test_architectures import check
from tests.live.world import SITES, TEXTS, World, entry, run
from worker.live.forward import BatchForward
from worker.live.steering import DECODE, PREFILL, Edit
from worker.models import LanguageModel
from worker.sites import add_hook
from worker.tokens import encode_text

METHODS = {"add": 3.0, "clamp": 4.0, "ablate": 0.0, "orthogonal": -1.5, "cap": 0.1}
CASES = [
    *(
        [entry(sae=f"1-{site}", feature=3, method=method, amount=amount)]
        for site, (method, amount) in itertools.product(SITES, METHODS.items())
    ),
    [entry(sae="1-post", feature=5, positions="generated")],
    [entry(sae="1-z", feature=5, positions="prompt", skip_special_tokens=True)],
    [entry(sae="1-out", feature=5, when={"sae": "1-pre", "feature": 3, "above": 0.0})],
    [entry(sae="1-transcoder", feature=4, method="clamp", amount=3.0)],
    [entry(sae="1-out", feature=6), entry(sae="1-pre", feature=6, positions="generated")],
    [entry(sae="1-pre", feature=6, positions="prompt")],
    [
        entry(sae="1-pre", feature=6, positions="prompt"),
        entry(sae="1-out", feature=5, positions="generated"),
    ],
    [entry(sae="1-out", feature=6), entry(sae="1-post", feature=6), entry(sae="1-post", feature=2)],
    [],
    [],
]


@pytest.fixture(params=["world", "llama", "gemma"])
def any_world(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


def compiled(world: World, cases: list[list[Intervention]]) -> list[tuple[Edit, ...]]:
    held = world.held(*(f"1-{site}" for site in SITES), "1-transcoder", slots=2)
    requests = (world.generation(held, "x", interventions=case) for case in cases)
    return [request.answers[0].edits for request in requests]


@contextmanager
def rows_by_block(model: LanguageModel) -> Iterator[list[int]]:
    """How many rows the MLP of each block is given."""
    seen: list[int] = []

    def count(state: torch.Tensor) -> None:
        seen.append(len(state))

    sites = [model.site(f"blocks.{layer}.hook_mlp_out") for layer in range(model.n_layers)]
    handles = [add_hook(model.hf.get_submodule(s.module), s.side, count) for s in sites]
    yield seen
    for handle in handles:
        handle.remove()


def check_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert bool((ours - theirs).abs().amax() <= 1e-5 * theirs.abs().amax())


@torch.inference_mode()
def test_a_shared_prefill_is_one_of_all_rows(any_world: World) -> None:
    edits = compiled(any_world, CASES)
    texts = [TEXTS[0] if row % 4 else TEXTS[1] for row in range(len(edits))]
    prompts = [encode_text(any_world.model, text) for text in texts]
    forward = BatchForward(any_world.model, slots=len(edits))
    found = []
    for allowed in (True, False):
        forward._sharing.allowed = allowed
        logits = forward.prefill(0, prompts, edits)
        forward.append(0, torch.full((len(edits),), 9))
        found.append((logits, forward.decode(len(edits), max(map(len, prompts)) + 1)))
    for shared, apart in zip(*found, strict=True):
        check_near(shared, apart)


@torch.inference_mode()
@pytest.mark.parametrize("case", range(len(METHODS) * len(SITES), len(CASES)))
def test_a_shared_text_in_pieces_is_one_of_two_rows(world: World, case: int) -> None:
    (edits,) = compiled(world, [CASES[case]])
    tokens = encode_text(world.model, TEXTS[0])
    forward = BatchForward(world.model, slots=2)
    room, found = forward.receipt_room, []
    for allowed in (True, False):
        forward._sharing.allowed = allowed
        forward.prepare(room, [edits, ()])
        found.append([
            forward.piece(room, tokens[begin:end], begin, phase, keep=end - begin)
            for begin, end, phase in ((0, 4, PREFILL), (4, 7, PREFILL), (7, 12, DECODE))
        ])  # fmt: skip
    for shared, apart in zip(*found, strict=True):
        check_near(shared, apart)


@torch.inference_mode()
def test_a_row_runs_by_itself_from_where_it_is_steered(any_world: World) -> None:
    cases = [
        [entry(sae="1-post", feature=3)],
        [],
        [entry(sae="1-pre", feature=3)],
        [entry(sae="1-pre", feature=3, positions="generated")],
        [],
    ]
    edits = compiled(any_world, cases)
    prompts = [encode_text(any_world.model, TEXTS[0])] * 4 + [encode_text(any_world.model, "x")]
    forward = BatchForward(any_world.model, slots=5)
    with rows_by_block(any_world.model) as rows:
        forward.prefill(0, prompts, edits)
    assert rows == [2, 3, 4]
    with rows_by_block(any_world.model) as rows:
        forward.decode(5, len(prompts[0]) + 1)
    assert rows == [5, 5, 5]


def test_a_model_that_minds_runs_every_row(world: World) -> None:
    """A hook that needs the rows that a forward began with stands for an architecture that does."""
    began: list[int] = []
    model = world.model

    def needs(state: torch.Tensor) -> None:
        if len(state) != began[-1]:
            raise RuntimeError("other rows than at the beginning")

    first, last = (model.site(f"blocks.{layer}.hook_resid_post") for layer in (0, 2))
    handles = [
        add_hook(model.hf.get_submodule(first.module), first.side, lambda s: began.append(len(s))),
        add_hook(model.hf.get_submodule(last.module), last.side, needs),
    ]
    try:
        held = world.held("1-pre", slots=4)
        pair = world.generation(
            held, TEXTS[0], interventions=[entry(sae="1-pre", feature=3)], baseline=True
        )
        run(held, pair)
    finally:
        for handle in handles:
            handle.remove()
    assert not held.engine._forward._sharing.allowed
    assert pair.problem is None
    check(world, pair.answers[1].prompt, pair.answers[1].tokens)
