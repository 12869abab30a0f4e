"""Folded activations are SAELens' own times the recorded scale, for every architecture."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from app.errors import Invalid
from tests.worker.tiny import D_MLP, D_MODEL, SAE_KINDS, ModelKind, save_sae
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.sites import add_hook

TRANSCODERS = (
    "transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder",
)  # fmt: skip
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
D_SAE = 96

X = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(1)) * 3 + 0.5
"""Vectors with a mean, as residual streams have."""


def make(folder: Path, kind: str, **config: Any) -> Path:
    if kind in TRANSCODERS:
        config |= {"d_out": D_MODEL, "apply_b_dec_to_input": False}
        config["metadata"] = {"hook_name_out": "blocks.1.hook_mlp_out"}
    return save_sae(folder / "sae", kind, d_sae=D_SAE, **config)


def sae_lens(folder: Path) -> SAE[Any]:
    with warnings.catch_warnings(action="ignore"):
        return SAE.load_from_disk(folder)


def undone(kind: str, normalisation: str, x: torch.Tensor) -> torch.Tensor | float:
    """By how much SAELens scales each token's reconstruction when it undoes a normalisation."""
    if kind in TRANSCODERS or normalisation == "none":
        return 1.0
    if normalisation == "layer_norm":
        return x.std(dim=-1, keepdim=True)
    return x.norm(dim=-1, keepdim=True) / D_MODEL**0.5


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


ALL = [
    *[(kind, norm, {}) for kind in (*SAE_KINDS, *TRANSCODERS) for norm in NORMALISATIONS],
    *[("matching_pursuit", norm, {}) for norm in NORMALISATIONS],
    ("matching_pursuit", "none", {"apply_b_dec_to_input": False}),
    *[(kind, "none", {"apply_b_dec_to_input": False}) for kind in SAE_KINDS],
    *[(kind, norm, {"rescale_acts_by_decoder_norm": True})
      for kind in ("topk", "abstopk") for norm in NORMALISATIONS],
    ("standard", "none", {"dtype": "bfloat16"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "normalisation", "config"), ALL)
def test_encode_is_sae_lens_times_scale(
    kind: str, normalisation: str, config: dict[str, Any], tmp_path: Path
) -> None:
    folder = make(tmp_path, kind, normalize_activations=normalisation, **config)
    dictionary = load_sae("1-test", folder)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        sae = SAE.load_from_disk(folder, dtype="float32")
        expected = sae.encode(X) * dictionary.scale * undone(kind, normalisation, X)
        reconstruction = sae(X)
    assert expected.count_nonzero() > 100
    encoded = dictionary.encode(X)
    assert_close(encoded, expected)
    assert_close(dictionary.decode(encoded, X), reconstruction)


@pytest.mark.parametrize(("kind", "normalisation"), [(k, n) for k, n, c in ALL if not c])
def test_activations_are_lengths_of_contributions(
    kind: str, normalisation: str, tmp_path: Path
) -> None:
    """Ablating a feature from SAELens' own activations moves its output by our activation."""
    folder = make(tmp_path, kind, normalize_activations=normalisation)
    dictionary = load_sae("1-test", folder)
    encoded = dictionary.encode(X)
    sae = sae_lens(folder)
    feature = int(encoded.count_nonzero(dim=0).argmax())
    with torch.no_grad():
        raw = sae.encode(X)
        whole = sae.decode(raw)
        raw[:, feature] = 0
        sae.encode(X)  # decode forgets the normalisation that encode noted
        moved = whole - sae.decode(raw)
    assert_close(moved.norm(dim=-1), encoded[:, feature].abs())
    unit = dictionary.directions(torch.tensor([feature]))
    assert_close(encoded[:, [feature]] * unit, moved)


@pytest.mark.parametrize(("kind", "normalisation"), [(k, n) for k, n, c in ALL if not c])
def test_sparse_and_columns_equal_dense(
    kind: str, normalisation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of seven tokens, so that there are several and the last one is short.
    monkeypatch.setattr("worker.encoders._BLOCK_ELEMENTS", {"cpu": 7 * D_SAE + 1})
    dictionary = load_sae("1-test", make(tmp_path, kind, normalize_activations=normalisation))
    dense = dictionary.encode(X)
    for x in (X[:3], X, X[:20]):  # buffers grow and are used again
        sparse = dictionary.encode_sparse(x)
        token, feature = dense[: len(x)].nonzero(as_tuple=True)
        assert torch.equal(sparse.token, token)
        assert torch.equal(sparse.feature, feature)
        assert_close(sparse.value, dense[token, feature])
    features = torch.tensor([40, 3, 95, 3, 0])
    assert_close(dictionary.encode_columns(X, features), dense[:, features])
    out = torch.full((50, D_SAE), 7.0)
    assert dictionary.encode(X, out=out).data_ptr() == out.data_ptr()
    assert torch.equal(out, dense)


@pytest.mark.parametrize("kind", [*SAE_KINDS, "matching_pursuit"])
def test_no_tokens_no_features(kind: str, tmp_path: Path) -> None:
    dictionary = load_sae("1-test", make(tmp_path, kind))
    none = torch.tensor([], dtype=torch.long)
    assert dictionary.encode(X[:0]).shape == (0, D_SAE)
    assert [len(part) for part in dictionary.encode_sparse(X[:0])] == [0, 0, 0]
    assert dictionary.encode_columns(X[:4], none).shape == (4, 0)


@pytest.mark.parametrize("kind", [*SAE_KINDS, *TRANSCODERS])
def test_it_runs_in_float32(kind: str, tmp_path: Path) -> None:
    dictionary = load_sae("1-test", make(tmp_path, kind))
    half = X.bfloat16()
    decoded = dictionary.decode(dictionary.encode(half), half)
    assert torch.equal(decoded, dictionary.decode(dictionary.encode(half), half.float()))
    assert dictionary.encode(half).dtype == torch.float32
    assert torch.equal(dictionary.encode(half), dictionary.encode(half.float()))


def test_a_dead_row_has_length_zero(tmp_path: Path) -> None:
    folder = make(tmp_path, "standard")
    weights = load_file(folder / "sae_weights.safetensors")
    weights["W_dec"][5] = 0
    save_file(weights, folder / "sae_weights.safetensors")
    dictionary = load_sae("1-test", folder)
    assert dictionary.encode(X)[:, 5].abs().max() == 0
    assert dictionary.directions(torch.tensor([5])).abs().max() == 0


def push(model: LanguageModel, ids: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """The residual stream after block 1 with a vector added to it there, by a forward."""
    site = model.site("blocks.1.hook_resid_post")
    module = model.hf.get_submodule(site.module)
    handle = add_hook(module, site.side, lambda state: state * 0 + along)
    try:
        return capture(model, ids, ["blocks.1.hook_resid_post"])["blocks.1.hook_resid_post"]
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", [kind for kind in SAE_KINDS if kind != "batchtopk"])
def test_a_planted_direction_is_found(kind: str, tmp_path: Path, gpt2: LanguageModel) -> None:
    planted = torch.nn.functional.normalize(torch.randn(D_MODEL), dim=0)
    folder = save_sae(tmp_path / "sae", kind, d_sae=D_SAE, planted=planted)
    dictionary = load_sae("1-test", folder, model=gpt2)
    lengths = torch.tensor([3.0, 40.0, 0.0, 1000.0])
    stream = push(gpt2, torch.arange(4)[None], lengths[:, None] * planted)[0]
    encoded = dictionary.encode(stream)
    assert torch.allclose(encoded[:, 0], lengths, rtol=1e-4, atol=1e-3)
    assert encoded[3].abs().argmax() == 0
    assert torch.allclose(dictionary.directions(torch.tensor([0]))[0], planted, atol=1e-6)


def test_what_a_dictionary_knows(tmp_path: Path, gpt2: LanguageModel) -> None:
    folder = save_sae(tmp_path / "sae", "abstopk", hook_name="blocks.2.hook_attn_out")
    dictionary = load_sae("2-att", folder, model=gpt2)
    assert (dictionary.id, dictionary.layer) == ("2-att", 2)
    assert dictionary.hook_name == dictionary.hook_out == "blocks.2.hook_attn_out"
    assert (dictionary.architecture, dictionary.signed) == ("abstopk", True)
    assert (dictionary.d_in, dictionary.d_sae) == (D_MODEL, 96)
    assert dictionary.prepend_bos is True
    assert (dictionary.steerable, dictionary.steerable_reason) == (True, None)
    assert not load_sae("1-x", make(tmp_path / "other", "topk")).signed


def test_a_transcoder_reads_here_and_steers_there(tmp_path: Path, gpt2: LanguageModel) -> None:
    folder = save_sae(
        tmp_path / "sae", "transcoder", hook_name="blocks.1.hook_resid_mid", d_out=D_MLP,
        apply_b_dec_to_input=False, metadata={"hook_name_out": "blocks.1.mlp.hook_post"},
    )  # fmt: skip
    dictionary = load_sae("1-tc", folder, model=gpt2)
    assert dictionary.hook_name == "blocks.1.hook_resid_mid"
    assert dictionary.hook_out == "blocks.1.mlp.hook_post"
    assert dictionary.directions(torch.arange(3)).shape == (3, D_MLP)


def test_an_sae_that_can_be_read_and_not_steered(
    tmp_path: Path, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    folder = save_sae(tmp_path / "sae", hook_name="blocks.1.attn.hook_q")
    dictionary = load_sae("1-q", folder, model=model_of("qwen2"))
    assert not dictionary.steerable
    assert dictionary.steerable_reason is not None
    assert "blocks.1.attn.hook_q cannot be steered" in dictionary.steerable_reason


def test_heads_are_flattened(tmp_path: Path, gpt2: LanguageModel) -> None:
    folder = save_sae(
        tmp_path / "sae", hook_name="blocks.1.attn.hook_z", reshape_activations="hook_z"
    )
    dictionary = load_sae("1-z", folder, model=gpt2)
    with torch.no_grad():
        expected = sae_lens(folder).encode(X.view(50, 4, 8)) * dictionary.scale
    assert_close(dictionary.encode(X), expected)


def test_it_must_fit_the_model(tmp_path: Path, gpt2: LanguageModel) -> None:
    wide = save_sae(tmp_path / "wide", d_in=64)
    with pytest.raises(Invalid, match=r"reads 64 numbers at blocks\.1.*tiny-gpt2 has 32"):
        load_sae("1-x", wide, model=gpt2)
    deep = save_sae(tmp_path / "deep", hook_name="blocks.9.hook_resid_post")
    with pytest.raises(Invalid, match=r"no hook point blocks\.9\.hook_resid_post"):
        load_sae("1-x", deep, model=gpt2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    folder = save_sae(tmp_path / "sae", "standard")
    weights = load_file(folder / "sae_weights.safetensors")
    weights[name].view(-1)[3] = value
    save_file(weights, folder / "sae_weights.safetensors")
    with pytest.raises(Invalid, match=f"numbers in {name} that are infinite or no numbers"):
        load_sae("a", folder)


def test_neurons_are_a_dictionary(gpt2: LanguageModel) -> None:
    neurons = neuron_dictionary(gpt2, 1)
    x = capture(gpt2, torch.arange(9)[None], [neurons.hook_name])[neurons.hook_name][0]
    assert (neurons.id, neurons.hook_name) == ("1-mlp", "blocks.1.mlp.hook_post")
    assert neurons.signed
    assert neurons.prepend_bos is None
    assert neurons.steerable
    assert torch.equal(neurons.encode(x), x)
    assert neurons.encode(x).data_ptr() != x.data_ptr()
    features = torch.tensor([7, 0])
    assert torch.equal(neurons.encode_columns(x, features), x[:, features])
    sparse = neurons.encode_sparse(x)
    assert torch.equal(sparse.value, x[sparse.token, sparse.feature])
    assert len(sparse.value) == x.count_nonzero()
    assert torch.equal(neurons.directions(features), torch.eye(D_MLP)[features])
    assert torch.equal(neurons.decode(x, x), x)
    assert neurons.fingerprint != neuron_dictionary(gpt2, 2).fingerprint
    with pytest.raises(Invalid, match=r"no hook point blocks\.3\.mlp\.hook_post"):
        neuron_dictionary(gpt2, 3)


def centre(folder: Path, target: Path) -> Path:
    """The same model with the mean taken out of everything that writes to the residual stream."""
    model = load_model("m", folder).hf
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith((".wte.weight", ".wpe.weight", ".c_proj.weight", ".c_proj.bias")):
                tensor -= tensor.mean(dim=-1, keepdim=True)
    model.save_pretrained(target)
    return target


@pytest.mark.parametrize("hook", ["hook_resid_post", "hook_resid_mid", "hook_mlp_out"])
def test_centring_is_mapped_at_the_site(
    hook: str, tmp_path: Path, gpt2: LanguageModel, folder_of: Callable[[ModelKind], Path]
) -> None:
    hook = f"blocks.1.{hook}"
    processing = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    mapped = load_sae("1-a", make_at(tmp_path / "a", hook, processing), model=gpt2)
    plain = load_sae("1-b", make_at(tmp_path / "b", hook, {}), model=gpt2)
    centred = centre(folder_of("gpt2"), tmp_path / "centred")
    gpt2.tokenizer.save_pretrained(centred)
    ids = torch.arange(20)[None]
    x = capture(gpt2, ids, [hook])[hook][0]
    expected = plain.encode(capture(load_model("c", centred), ids, [hook])[hook][0])
    assert_close(mapped.encode(x), expected)
    assert (plain.encode(x) - expected).abs().max() > 1e-2 * expected.abs().max()
    reconstruction = mapped.decode(mapped.encode(x), x)
    unmapped = plain.decode(mapped.encode(x), x)
    assert_close(reconstruction, unmapped + x.mean(dim=-1, keepdim=True))


def make_at(folder: Path, hook: str, metadata: dict[str, Any]) -> Path:
    return save_sae(folder, "standard", hook_name=hook, metadata=metadata)


def test_centring_is_nothing_to_rms_norm(
    tmp_path: Path, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    processing = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    folder = make_at(tmp_path, "blocks.1.hook_resid_post", processing)
    assert not load_sae("1-a", folder, model=model_of("qwen2")).centred


@pytest.mark.parametrize(
    ("hook", "option", "refused"),
    [
        ("attn.hook_z", "fold_value_biases", True),
        ("attn.hook_z", "refactor_factored_attn_matrices", True),
        ("attn.hook_z", "fold_ln", False),
        ("hook_resid_post", "fold_value_biases", False),
        ("hook_resid_post", "center_unembed", False),
        ("hook_resid_post", "fold_ln", False),
    ],
)
def test_processing_that_cannot_be_mapped_is_refused(
    hook: str, option: str, refused: bool, tmp_path: Path, gpt2: LanguageModel
) -> None:
    processing = {"model_from_pretrained_kwargs": {option: True}}
    folder = make_at(tmp_path, f"blocks.1.{hook}", processing)
    if refused:
        with pytest.raises(Invalid, match=f"loaded with {option}, which changes the values"):
            load_sae("1-a", folder, model=gpt2)
    else:
        assert isinstance(load_sae("1-a", folder, model=gpt2), Dictionary)


def test_a_folder_of_an_older_sae_lens(tmp_path: Path) -> None:
    """Before SAELens 6 all settings were in one flat object."""
    folder = make(tmp_path, "standard")
    config = json.loads((folder / "cfg.json").read_text())
    metadata = config.pop("metadata")
    old = {key: metadata[key] for key in ("hook_name", "model_name", "context_size")}
    config |= {**old, "activation_fn_str": "relu", "normalize_activations": "none"}
    (folder / "cfg.json").write_text(json.dumps(config))
    dictionary = load_sae("1-old", folder)
    with torch.no_grad():
        assert_close(dictionary.encode(X), sae_lens(folder).encode(X) * dictionary.scale)
