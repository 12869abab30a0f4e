"""What is captured is what TransformerLens' own Bridge sees, whatever the padding."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from app.errors import Invalid
from tests.worker.tiny import MODEL_KINDS, N_LAYERS, ModelKind
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.sites import STEERABLE_HOOKS, find_sites, is_steerable

STORIES = Path(__file__).parents[3] / "shared/data/models/stories260K"
ALL_KINDS: tuple[ModelKind, ...] = (*MODEL_KINDS, "falcon", "opt", "mixtral")
IDS = torch.tensor([[0, 17, 101, 5, 260, 33, 78, 9, 140, 2, 2, 64]])


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < 1e-5, f"{what}: {error:.1e}"


def bridge_cache(path: Path, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    bridge = TransformerBridge.boot_transformers(str(path), device="cpu")
    with torch.inference_mode():
        return bridge.run_with_cache(ids)[1].cache_dict


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_site_equals_the_bridge(
    kind: ModelKind,
    folder_of: Callable[[ModelKind], Path],
    model_of: Callable[[ModelKind], LanguageModel],
) -> None:
    cache = bridge_cache(folder_of(kind), IDS)
    model = model_of(kind)
    found = capture(model, IDS, list(model.sites))
    assert set(found) == set(model.sites) <= set(cache)
    for name, value in found.items():
        assert value.shape == (*IDS.shape, model.sites[name].width)
        assert_close(value, cache[name].flatten(2), name)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_sites_are_all_there(
    kind: ModelKind, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    model = model_of(kind)
    # Parallel blocks have no residual stream in the middle, experts no one vector of neurons.
    lacks = {"neox": "hook_resid_mid", "falcon": "hook_resid_mid", "mixtral": "mlp.hook_post"}
    expected = {
        f"blocks.{layer}.{hook}"
        for layer in range(N_LAYERS)
        for hook in set(STEERABLE_HOOKS) - {lacks.get(kind)}
    }
    assert {name for name in model.sites if is_steerable(name)} == expected


def test_a_block_that_runs_twice_has_no_sites(folder_of: Callable[[ModelKind], Path]) -> None:
    model = load_model("m", folder_of("gpt2"))
    model.hf.transformer.h[2] = model.hf.transformer.h[1]
    sites = find_sites(model.hf, model.facts.anatomy)
    assert {name.split(".")[1] for name in sites} == {"0"}


@pytest.mark.skipif(not STORIES.is_dir(), reason=f"needs {STORIES}")
def test_a_real_model_equals_the_bridge() -> None:
    model = load_model("stories", STORIES)
    ids = torch.tensor([[1, *model.tokenizer.encode("Lily had a red ball.")]])
    cache = bridge_cache(STORIES, ids)
    assert len(model.sites) >= 7 * 5
    for name, value in capture(model, ids, list(model.sites)).items():
        assert_close(value, cache[name].flatten(2), name)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_padding_changes_nothing(
    kind: ModelKind, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    model = model_of(kind)
    lengths = [12, 7, 1]
    batch = IDS.repeat(3, 1)
    for row, length in enumerate(lengths):
        batch[row, length:] = 0
    found = capture(model, batch, list(model.sites))
    for row, length in enumerate(lengths):
        alone = capture(model, IDS[:, :length], list(model.sites))
        for name, value in found.items():
            assert_close(value[row, :length], alone[name][0], f"{name}, {length} tokens")


def test_the_forward_stops_at_the_deepest_hook(gpt2: LanguageModel) -> None:
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(gpt2.hf.transformer.h)
    ]
    capture(gpt2, IDS, ["blocks.1.hook_attn_out", "blocks.0.hook_resid_post"])
    for handle in handles:
        handle.remove()
    assert ran == [0]


def test_no_hook_stays_behind(gpt2: LanguageModel) -> None:
    with pytest.raises(IndexError):
        capture(gpt2, torch.tensor([[100_000]]), ["blocks.2.hook_resid_post"])
    capture(gpt2, IDS, ["blocks.2.hook_resid_post", "blocks.0.hook_mlp_out"])
    modules = gpt2.hf.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_an_unknown_hook_is_named(gpt2: LanguageModel) -> None:
    with pytest.raises(Invalid, match=r"no hook point blocks\.7\.hook_resid_post; it has hook_res"):
        capture(gpt2, IDS, ["blocks.7.hook_resid_post"])
