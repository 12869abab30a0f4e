"""What follows from weights alone, against plain formulas and against interventions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.precompute.scene import Scene
from tests.worker.tiny import ModelKind, save_model
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.precompute.logits import Unembedding
from worker.precompute.neighbors import nearest
from worker.precompute.neurons import aligned_neurons
from worker.precompute.residual import projection, to_residual
from worker.precompute.weights import weight_evidence


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    folder: Path = tmp_path_factory.mktemp("models")
    kinds: tuple[ModelKind, ...] = ("gpt2", "llama", "gemma2", "gemma3", "neox")
    made = {kind: load_model("tiny", save_model(folder / f"m{i}", kind))
            for i, kind in enumerate(kinds)}  # fmt: skip
    for model in made.values():
        _shake_norms(model)
    return made


def _shake_norms(model: LanguageModel) -> None:
    """Fresh norms have gain 1 and bias 0, which would hide their being left out."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.hf.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter += torch.randn(parameter.shape, generator=generator) * 0.3


def _through_final_norm(model: LanguageModel, kind: str, d: torch.Tensor) -> torch.Tensor:
    hf = model.hf
    if kind == "gpt2":
        return (d - d.mean(1, keepdim=True)) * hf.transformer.ln_f.weight
    if kind == "neox":
        return (d - d.mean(1, keepdim=True)) * hf.gpt_neox.final_layer_norm.weight
    return d * (hf.model.norm.weight + kind.startswith("gemma"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "gemma3", "neox"])
def test_logits_pass_the_final_norm_and_the_unembedding(
    models: dict[str, LanguageModel], kind: str
) -> None:
    model = models[kind]
    d = torch.randn(7, model.d_model, generator=torch.Generator().manual_seed(1))
    expected = _through_final_norm(model, kind, d) @ model.hf.get_output_embeddings().weight.T
    found = Unembedding(model).promoted(d)
    for (ids, values), order in ((found.top, -expected), (found.bottom, expected)):
        assert torch.equal(ids, order.argsort(dim=1)[:, :10])
        torch.testing.assert_close(values, expected.gather(1, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "gemma3", "neox"])
def test_all_logits_are_counted_in_bins_of_equal_width(
    models: dict[str, LanguageModel], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logit as near an edge as rounding goes may be on either side of it."""
    monkeypatch.setattr("worker.precompute.logits._BLOCK", 1_000)
    model = models[kind]
    d = torch.randn(7, model.d_model, generator=torch.Generator().manual_seed(5))
    weight = model.hf.get_output_embeddings().weight
    logits = (_through_final_norm(model, kind, d).double() @ weight.double().T).numpy()
    found = Unembedding(model).promoted(d)
    assert found.counts.sum(1).tolist() == [model.vocab_size] * 7
    for row, counts, (low, high) in zip(logits, found.counts, found.range.tolist(), strict=True):
        assert low == pytest.approx(row.min(), rel=1e-5)
        assert high == pytest.approx(row.max(), rel=1e-5)
        assert counts[0] >= 1 and counts[-1] >= 1
        width = row.max() - row.min()
        for i in range(1, 32):
            edge, before = row.min() + width * i / 32, int(counts[:i].sum())
            assert (row < edge - 1e-5 * width).sum() <= before <= (row < edge + 1e-5 * width).sum()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "neox"])
@pytest.mark.parametrize(
    ("site", "written"), [("mlp.hook_post", "hook_mlp_out"), ("attn.hook_z", "hook_attn_out")]
)
def test_projection_is_what_adding_there_does_to_the_stream(
    models: dict[str, LanguageModel], kind: str, site: str, written: str
) -> None:
    model = models[kind]
    hook, out = f"blocks.1.{site}", f"blocks.1.{written}"
    width = model.site(hook).width
    vector = torch.randn(1, width, generator=torch.Generator().manual_seed(2))
    ids = torch.arange(5)[None]
    before = capture(model, ids, [out])[out]
    module = model.hf.get_submodule(model.site(hook).module)
    handle = module.register_forward_pre_hook(lambda _, args: (args[0] + vector, *args[1:]))
    after = capture(model, ids, [out])[out]
    handle.remove()
    moved = to_residual(model, hook, vector)
    assert moved is not None
    torch.testing.assert_close((after - before)[0], moved.expand(5, -1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["gemma2", "gemma3"])
@pytest.mark.parametrize(
    ("site", "written"), [("mlp.hook_post", "hook_mlp_out"), ("attn.hook_z", "hook_attn_out")]
)
def test_projection_holds_the_gain_of_a_norm_behind_it(
    models: dict[str, LanguageModel], kind: str, site: str, written: str
) -> None:
    """Added so strongly that all else is gone, a vector shows its direction behind the norm."""
    model = models[kind]
    hook, out = f"blocks.1.{site}", f"blocks.1.{written}"
    vector = torch.randn(1, model.site(hook).width, generator=torch.Generator().manual_seed(2))
    module = model.hf.get_submodule(model.site(hook).module)
    handle = module.register_forward_pre_hook(lambda _, args: (args[0] + 1e6 * vector, *args[1:]))
    after = capture(model, torch.arange(5)[None], [out])[out]
    handle.remove()
    moved = to_residual(model, hook, vector)
    assert moved is not None
    assert torch.cosine_similarity(after[0], moved.expand(5, -1), dim=1).min() > 0.99999


def test_other_hook_points_write_nothing(models: dict[str, LanguageModel]) -> None:
    assert to_residual(models["gpt2"], "blocks.0.attn.hook_q", torch.ones(1, 32)) is None
    d = torch.ones(2, 32)
    assert to_residual(models["gpt2"], "blocks.0.hook_resid_mid", d) is d


def test_neighbors_are_the_largest_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.precompute.neighbors._BLOCK", 200)
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows /= rows.norm(dim=1, keepdim=True)
    indices, cosines = nearest(rows.float(), 10, 37)
    for i, feature in enumerate(range(10, 37)):
        cosine = {other: float(rows[feature] @ rows[other]) for other in range(50)}
        del cosine[feature]
        expected = sorted(cosine, key=cosine.__getitem__, reverse=True)[:10]
        assert indices[i].tolist() == expected
        np.testing.assert_allclose(cosines[i], [cosine[j] for j in expected], atol=1e-6)


def test_few_features_have_few_neighbors() -> None:
    indices, _ = nearest(torch.eye(3), 0, 3)
    assert indices.shape == (3, 2)


@pytest.mark.parametrize(
    ("hook", "layers"),
    [
        ("blocks.1.hook_resid_post", [0, 1]),
        ("blocks.1.hook_mlp_out", [0, 1]),
        ("blocks.1.hook_resid_pre", [0]),
        ("blocks.2.hook_resid_mid", [0, 1]),
        ("blocks.1.attn.hook_z", [0]),
        ("blocks.0.hook_resid_pre", []),
    ],
)
def test_neurons_are_the_largest_cosines(
    models: dict[str, LanguageModel], hook: str, layers: list[int]
) -> None:
    model = models["gpt2"]
    d = torch.randn(6, 32, generator=torch.Generator().manual_seed(4))
    found = aligned_neurons(model, hook, d)
    residual = to_residual(model, hook, d)
    assert residual is not None
    for i in range(6):
        cosine = {}
        for layer in layers:
            rows = projection(model, f"blocks.{layer}.mlp.hook_post")
            for neuron, row in enumerate(rows):
                cosine[layer, neuron] = float(torch.cosine_similarity(row, residual[i], dim=0))
        expected = sorted(cosine, key=lambda at: -abs(cosine[at]))[:5]
        at = list(zip(found.layer[i].tolist(), found.neuron[i].tolist(), strict=True))
        assert at == expected
        np.testing.assert_allclose(found.weight[i], [cosine[j] for j in expected], atol=1e-6)


def test_neurons_of_a_neuron_space_feature_are_its_largest_entries(
    models: dict[str, LanguageModel],
) -> None:
    d = torch.zeros(1, 48)
    d[0, [3, 40, 7, 9, 21]] = torch.tensor([0.1, -0.9, 0.3, -0.2, 0.15])
    found = aligned_neurons(models["gpt2"], "blocks.2.mlp.hook_post", d)
    assert found.layer.tolist() == [[2] * 5]
    assert found.neuron.tolist() == [[40, 7, 9, 21, 3]]
    torch.testing.assert_close(found.weight[0], torch.tensor([-0.9, 0.3, -0.2, 0.15, 0.1]))


def test_every_kind_of_dictionary_gets_what_it_can(scene: Scene) -> None:
    unembedding = Unembedding(scene.model)
    widths = {}
    for one in scene.dictionaries:
        found = weight_evidence(scene.model, unembedding, one, 3, 9)
        pairs = (found.top_logits, found.bottom_logits, found.neighbors, found.neurons)
        assert all(column.shape[0] == 6 for pair in pairs for column in pair)
        widths[one.id] = [pair[0].shape[1] for pair in pairs]
    assert widths.pop("2-mlp") == [10, 10, 0, 0]
    assert all(width == [10, 10, 10, 5] for width in widths.values())


def test_adding_a_direction_raises_the_tokens_that_it_promotes(scene: Scene) -> None:
    """Added strongly to the last residual stream, a direction decides the logits: its promoted
    tokens then lead, but for the norm's bias."""
    dictionary = scene.dictionaries[1]
    found = weight_evidence(scene.model, Unembedding(scene.model), dictionary, 0, 8)
    site = scene.model.site("blocks.2.hook_resid_post")
    module = scene.model.hf.get_submodule(site.module)
    for row in range(8):
        d = dictionary.directions(torch.tensor([row]))[0]
        handle = module.register_forward_hook(
            lambda _, __, out, d=d: (
                (out[0] + 1e4 * d, *out[1:]) if isinstance(out, tuple) else out + 1e4 * d
            )
        )
        logits = scene.model.hf(torch.tensor([[0, 9, 8]])).logits[0, -1]
        handle.remove()
        assert logits.topk(10).indices.tolist() == found.top_logits[0][row].tolist()
