"""Loading a model: what it knows of itself, and what is refused on the way."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import Invalid
from tests.worker.tiny import (
    CONTEXT,
    D_MLP,
    D_MODEL,
    MODEL_KINDS,
    N_LAYERS,
    ModelKind,
    bpe_tokenizer,
    save_model,
)
from worker.models import LanguageModel, load_model, resolve_device


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_what_a_model_knows(
    kind: ModelKind, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    model = model_of(kind)
    sizes = (model.n_layers, model.d_model, model.d_mlp, model.context_size, model.vocab_size)
    assert sizes == (N_LAYERS, D_MODEL, D_MLP, CONTEXT, 400)
    assert (model.prepend_bos, model.bos_id, model.eos_ids) == (True, 0, {1})
    assert model.special_ids >= {0, 1}
    assert model.layer_norm == (kind in ("gpt2", "neox"))
    assert model.hook_points["blocks.2.hook_resid_post"] == D_MODEL
    assert model.hook_points["blocks.0.mlp.hook_post"] == D_MLP
    assert not model.has_chat_template
    assert not model.hf.training
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    # Soft-capped attention scores, as Gemma 2 has them, are beyond the fused kernel.
    assert model.hf.config._attn_implementation == ("eager" if kind == "gemma2" else "sdpa")


def test_loading_changes_no_weight(
    folder_of: Callable[[ModelKind], Path], gpt2: LanguageModel
) -> None:
    loaded = gpt2.hf.state_dict()
    for name, tensor in load_file(folder_of("gpt2") / "model.safetensors").items():
        assert torch.equal(loaded[name], tensor)


def test_models_that_are_loaded_at_the_same_time(folder_of: Callable[[ModelKind], Path]) -> None:
    def load(kind: ModelKind) -> dict[str, torch.Tensor]:
        return load_model("m", folder_of(kind)).hf.state_dict()

    kinds: list[ModelKind] = ["gpt2", "llama"]
    alone = {kind: load(kind) for kind in kinds}
    with ThreadPoolExecutor(3) as threads:
        for kind, weights in zip(kinds * 3, threads.map(load, kinds * 3), strict=True):
            assert all(torch.equal(weights[name], alone[kind][name]) for name in weights)


def test_a_tokenizer_without_bos(tmp_path: Path) -> None:
    save_model(tmp_path / "m", tokenizer=bpe_tokenizer(bos=False))
    model = load_model("m", tmp_path / "m")
    assert (model.prepend_bos, model.bos_id) == (False, None)


def test_bfloat16(folder_of: Callable[[ModelKind], Path]) -> None:
    model = load_model("m", folder_of("gpt2"), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16


def test_weights_that_do_not_fill_the_model(
    folder_of: Callable[[ModelKind], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder_of("gpt2"), tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(Invalid, match=r"1 tensors such as transformer\.h\.1\.mlp\.c_fc\.weight"):
        load_model("m", folder)


def test_weights_of_another_width(folder_of: Callable[[ModelKind], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("gpt2"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_inner": 64}))
    with pytest.raises(Invalid, match="have another shape"):
        load_model("m", folder)


def test_a_broken_tokenizer(folder_of: Callable[[ModelKind], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("gpt2"), tmp_path / "model"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Invalid, match=r"The tokenizer in .* cannot be loaded"):
        load_model("m", folder)


def test_the_fingerprint_is_of_the_content(
    folder_of: Callable[[ModelKind], Path], tmp_path: Path, gpt2: LanguageModel
) -> None:
    folder = Path(shutil.copytree(folder_of("gpt2"), tmp_path / "elsewhere"))
    (folder / "README.md").write_text("no part of the numbers")
    assert load_model("m", folder).fingerprint == gpt2.fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["transformer.wte.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_model("m", folder).fingerprint != gpt2.fingerprint


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == auto


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tpu", "meta", ""])
def test_no_such_device(name: str) -> None:
    with pytest.raises(Invalid, match=f"The device '{name}' is not on this machine; use auto"):
        resolve_device(name)
