"""Steered text equals the same intervention by TransformerLens hooks and SAELens."""

import itertools
from pathlib import Path

import pytest
import torch

from app.contract.steering import Intervention
from app.errors import Invalid
from tests.live.reference import Reference, by_bridge, by_hooked_transformer, check_same
from tests.live.world import KINDS, SITES, TEXTS, World, build_world, entry, run
from tests.worker.tiny import ModelKind, save_model, save_sae
from worker.activations import capture
from worker.live.answer import Generation
from worker.models import load_model
from worker.resid_mid import find_exact_mid
from worker.sites import Site
from worker.tokens import encode_text

METHODS = {"add": 3.0, "clamp": 4.0, "ablate": 0.0, "orthogonal": -1.5, "cap": 0.1}
Case = list[Intervention]


@pytest.fixture(scope="module")
def reference(world: World) -> Reference:
    return by_bridge(world)


def check_all(reference: Reference, cases: list[Case], new: int = 10) -> list[Generation]:
    """Run all cases and an unsteered row in one batch, each with another prompt; greedy tokens of
    each are those of the reference alone."""
    world = reference.world
    saes = {name for case in cases for e in case for name in e.saes}
    held = world.held(*saes, slots=len(cases) + 1)
    pairs = list(zip([*cases, []], itertools.cycle(TEXTS), strict=False))
    generations = [
        world.generation(held, text, interventions=case, max_new_tokens=new) for case, text in pairs
    ]
    run(held, *generations)
    for (case, _), generation in zip(pairs, generations, strict=True):
        answer = generation.answers[0]
        theirs = reference.generate(answer.prompt, case, new)
        check_same(reference, answer.prompt, case, answer.tokens, theirs)
    return generations


@pytest.mark.parametrize("site", SITES)
def test_every_method_at_every_site(world: World, reference: Reference, site: str) -> None:
    right = by_hooked_transformer(world) if site == "mid" else reference
    sae = f"1-{site}"
    check_all(
        right,
        [
            [entry(sae=sae, feature=7 + i, method=method, amount=amount)]
            for i, (method, amount) in enumerate(METHODS.items())
        ],
    )


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_positions(reference: Reference, positions: str) -> None:
    check_all(
        reference,
        [
            [entry(sae="1-standard", feature=i, method=method, amount=amount, positions=positions)]
            for i, (method, amount) in enumerate(METHODS.items())
        ],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_activations_that_clamp_and_ablate_read(reference: Reference, kind: str) -> None:
    """Over SAEs of every architecture, on features that are active somewhere in the prompts."""
    active = _active_features(reference.world, f"1-{kind}", TEXTS[0], 2)
    check_all(
        reference,
        [
            [entry(sae=f"1-{kind}", feature=feature, method=method, amount=5.0)]
            for feature in active
            for method in ("clamp", "ablate")
        ],
    )


def test_neurons(reference: Reference) -> None:
    check_all(
        reference,
        [
            [entry(sae="1-mlp", feature=i, method=method, amount=amount)]
            for i, (method, amount) in enumerate(METHODS.items())
        ],
    )


def test_a_transcoder_reads_at_its_input_and_steers_at_its_output(reference: Reference) -> None:
    active = _active_features(reference.world, "1-transcoder", TEXTS[0], 1)
    check_all(
        reference,
        [
            [entry(sae="1-transcoder", feature=feature, method=method, amount=amount)]
            for feature in active
            for method, amount in METHODS.items()
        ]
        + [
            [
                entry(sae="1-pre", feature=2, amount=3.0),
                entry(sae="1-transcoder", feature=active[0], method="clamp", amount=3.0),
            ]
        ],
    )


def test_vectors(reference: Reference) -> None:
    """A vector is added as given; orthogonal and cap use its direction alone."""
    vector = (3 * torch.randn(32, generator=torch.Generator().manual_seed(4))).tolist()
    check_all(
        reference,
        [
            [entry(hook=SITES[site], vector=vector, method=method, amount=METHODS[method])]
            for site, method in itertools.product(("pre", "z"), ("add", "orthogonal", "cap"))
        ],
    )


def test_entries_apply_in_order(reference: Reference) -> None:
    """Entries at one site work on the result of the one before; the order shows in the text."""
    twice = [
        entry(sae="1-standard", feature=3, method="clamp", amount=4.0),
        entry(sae="1-standard", feature=3, method="ablate", amount=0.0),
        entry(sae="1-topk", feature=5, method="orthogonal", amount=-2.0, positions="generated"),
    ]
    several = [
        entry(sae="1-pre", feature=1, amount=4.0, positions="prompt"),
        entry(sae="1-z", feature=2, method="clamp", amount=3.0),
        entry(sae="1-topk", feature=9, method="cap", amount=0.0),
        entry(sae="1-out", feature=4, amount=2.0, positions="generated"),
    ]
    one = [entry(sae="1-topk", feature=1, amount=3.0)]
    check_all(reference, [twice, twice[::-1], several, several[::-1], one])


@pytest.mark.parametrize("positions", ["all", "generated"])
def test_only_while_a_feature_is_active(reference: Reference, positions: str) -> None:
    """At the steered site, at an earlier one, and several conditions on one row."""
    world = reference.world
    cases = []
    for sae in ("1-standard", "1-topk", "1-pre", "0-mlp"):
        for feature in _active_features(world, sae, TEXTS[0], 2):
            strongest = float(_values(world, sae, TEXTS[0])[:, feature].max())
            for above in (0.0, 0.5 * strongest, 2 * strongest):
                when = {"sae": sae, "feature": feature, "above": above}
                cases.append(
                    [entry(sae="1-post", feature=7, amount=6.0, positions=positions, when=when)]
                )
    clamped = entry(sae="1-standard", feature=3, method="clamp", amount=4.0, when=cases[0][0].when)
    cases.append([clamped, *cases[-2], *cases[1]])
    generations = check_all(reference, cases)
    assert len({tuple(g.answers[0].tokens) for g in generations}) > len(cases) / 4


def test_special_tokens_can_be_left_alone(reference: Reference) -> None:
    fields = {"sae": "1-pre", "feature": 7, "amount": 30.0, "positions": "prompt"}
    cases = [[entry(**fields, skip_special_tokens=skip)] for skip in (True, False)]
    held = reference.world.held("1-pre")
    texts = [
        reference.world.generation(held, "The", interventions=case, max_new_tokens=10)
        for case in cases
    ]
    run(held, *texts)
    assert texts[0].answers[0].tokens != texts[1].answers[0].tokens
    check_all(reference, cases * 3)


def test_a_condition_behind_the_site_is_refused(world: World) -> None:
    held = world.held("1-pre", "1-post")
    late = entry(sae="1-pre", feature=1, when={"sae": "1-post", "feature": 1, "above": 0})
    with pytest.raises(Invalid, match="only after blocks"):
        world.generation(held, "x", interventions=[late.model_dump()])


def test_a_condition_holds_for_all_entries_at_its_site(world: World) -> None:
    """Where a feature is active it is taken out and another one put in: the second entry is not
    kept from acting by what the first one did."""
    held = world.held("1-standard")
    feature = _active_features(world, "1-standard", TEXTS[0], 1)[0]
    when = {"sae": "1-standard", "feature": feature, "above": 0.0}
    out = entry(sae="1-standard", feature=feature, method="ablate", amount=0.0, when=when)
    into = entry(sae="1-standard", feature=7, amount=8.0, when=when)
    one, both = (
        world.generation(held, TEXTS[0], interventions=case) for case in ([out], [out, into])
    )
    run(held, one, both)
    assert one.answers[0].tokens != both.answers[0].tokens


def test_steering_changes_the_text(world: World) -> None:
    """The cases above would prove nothing if steering did not move the model."""
    held = world.held("1-post", "1-z")
    cases = [[], *([entry(sae=sae, feature=7, amount=6.0)] for sae in ("1-post", "1-z"))]
    generations = [world.generation(held, TEXTS[0], interventions=case) for case in cases]
    run(held, *generations)
    assert len({tuple(generation.answers[0].tokens) for generation in generations}) == 3


@pytest.mark.parametrize("kind", ["neox", "qwen2", "gemma3"])
def test_architectures_that_have_no_world_of_their_own(kind: ModelKind, tmp_path: Path) -> None:
    """Parallel blocks, biased attention, five sliding layers to a full one."""
    check_every_site(build_world(tmp_path, kind))


def test_a_condition_at_a_site_that_the_model_writes_over(tmp_path: Path) -> None:
    """Falcon adds attn_out to mlp_out in place, after the site was passed."""
    saes = {
        name: save_sae(tmp_path / name, "standard", hook_name=f"blocks.1.{hook}", seed=seed)
        for seed, (name, hook) in enumerate([("1-out", "hook_mlp_out"), ("1-post", "hook_resid_post")])
    }  # fmt: skip
    world = World("tiny", save_model(tmp_path / "m", "falcon"), saes)
    dictionary = world.dictionary("1-out")
    ids = torch.tensor([encode_text(world.model, TEXTS[0])])
    states = capture(world.model, ids, [dictionary.hook_name])[dictionary.hook_name][0]
    strongest = dictionary.encode(states).amax(0)
    cases = [
        [
            entry(
                sae="1-post", feature=7, amount=8.0,
                when={"sae": "1-out", "feature": feature, "above": float(strongest[feature]) / 2},
            )
        ]
        for feature in strongest.topk(6).indices.tolist()
    ]  # fmt: skip
    check_all(by_bridge(world), cases, new=6)


def test_a_transcoder_that_writes_before_it_reads_is_refused(world: World, tmp_path: Path) -> None:
    folder = save_sae(
        tmp_path, "transcoder", hook_name=SITES["post"], d_out=32, apply_b_dec_to_input=False,
        metadata={"hook_name_out": SITES["pre"]},
    )  # fmt: skip
    backwards = World(world.id, world.folder, {"1-back": folder})
    with pytest.raises(Invalid, match="reaches only later"):
        backwards.generation(
            backwards.held("1-back"), TEXTS[0], interventions=[entry(sae="1-back", feature=7)]
        )


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_other_architectures(name: str, request: pytest.FixtureRequest) -> None:
    check_every_site(request.getfixturevalue(name))


def check_every_site(world: World) -> None:
    cases = [
        [entry(sae=f"1-{site}", feature=11 + i, method=method, amount=METHODS[method])]
        for i, (site, method) in enumerate(zip(SITES, itertools.cycle(METHODS), strict=False))
        if site != "mid"
    ]
    check_all(by_bridge(world), cases, new=16)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_resid_mid_is_the_residual_stream(name: str, request: pytest.FixtureRequest) -> None:
    """What is added to attn_out is added to resid_mid, so both give the same text."""
    world: World = request.getfixturevalue(name)
    held = world.held()
    vector = (4 * torch.randn(32, generator=torch.Generator().manual_seed(5))).tolist()
    generations = [
        world.generation(
            held, TEXTS[1], interventions=[entry(hook=hook, vector=vector)], max_new_tokens=16
        )
        for hook in ("blocks.1.hook_resid_mid", "blocks.1.hook_attn_out")
    ]
    run(held, *generations)
    mid, attn = (generation.answers[0].tokens for generation in generations)
    assert mid == attn


def test_resid_mid_of_a_parallel_block_is_refused(tmp_path: Path) -> None:
    """Where the MLP's input is the block's input, editing it is not editing the residual."""
    model = load_model("parallel", save_model(tmp_path / "model", "neox"))
    name = "blocks.1.hook_resid_mid"
    assert name not in model.sites
    module = "gpt_neox.layers.1.post_attention_layernorm"
    model.sites[name] = Site(name, module, "in", width=32)
    assert find_exact_mid(model) == frozenset()


def test_stories(stories: World) -> None:
    """A trained model, with features that are active in its own stories."""
    text = "Once upon a time, there was a little girl named Lily. She"
    cases = [
        [entry(sae=sae, feature=feature, method=method, amount=METHODS[method])]
        for sae in ("2-topk", "2-jumprelu")
        for method in METHODS
        for feature in _active_features(stories, sae, text, 1)
    ]
    generations = check_all(by_bridge(stories), cases, new=24)
    assert len({tuple(g.answers[0].tokens) for g in generations}) > len(cases) / 2


VECTOR = [1.0] * 32
REFUSED = {
    "feature beyond the width": ({"sae": "1-post", "feature": 96}, "has no feature 96"),
    "negative feature": ({"sae": "1-post", "feature": -1}, "has no feature -1"),
    "amount not finite": ({"sae": "1-post", "feature": 0, "amount": float("inf")}, "finite"),
    "vector too short": ({"hook": SITES["post"], "vector": [1.0]}, "has 1 numbers"),
    "vector not finite": ({"hook": SITES["post"], "vector": [float("nan")] * 32}, "finite"),
    "vector of zeros": (
        {"hook": SITES["post"], "vector": [0.0] * 32, "method": "cap"},
        "length is 0",
    ),
    "vector clamped": ({"hook": SITES["post"], "vector": VECTOR, "method": "clamp"}, "feature"),
    "no such layer": ({"hook": "blocks.9.hook_resid_post", "vector": VECTOR}, "no hook point"),
    "no such hook": ({"hook": "blocks.1.hook_nothing", "vector": VECTOR}, "no hook point"),
    "neither": ({}, "either"),
    "half a feature": ({"sae": "1-post"}, "either"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_it_can_join(world: World, name: str) -> None:
    fields, sentence = REFUSED[name]
    held = world.held("1-post")
    with pytest.raises(Invalid) as refusal:
        world.generation(held, "x", interventions=[entry(**fields).model_dump()])
    assert sentence in refusal.value.detail


def _active_features(world: World, sae_id: str, text: str, count: int) -> list[int]:
    """The features that are strongest at the end of a text."""
    return _values(world, sae_id, text)[-1].topk(count).indices.tolist()


def _values(world: World, sae_id: str, text: str) -> torch.Tensor:
    """Activations of all features at every token."""
    ids = torch.tensor([encode_text(world.model, text)])
    dictionary = world.dictionary(sae_id)
    state = capture(world.model, ids, [dictionary.hook_name])[dictionary.hook_name]
    return dictionary.encode(state[0])
