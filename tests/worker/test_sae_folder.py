"""Every SAE folder that cannot be loaded is refused with a sentence, from its headers alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import Invalid
from tests.worker.tiny import D_MODEL, save_sae
from worker.sae_folder import check_sae_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_sae(tmp_path / "sae")


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of cfg.json; None removes one."""
    file = folder / "cfg.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_metadata(folder: Path, **changes: Any) -> None:
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    edit(folder, metadata=metadata | changes)


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as caught:
        check_sae_folder(folder)
    assert "\n" not in caught.value.detail


def test_a_good_folder(folder: Path) -> None:
    facts = check_sae_folder(folder)
    assert (facts.hook_name, facts.hook_out) == ("blocks.1.hook_resid_post",) * 2
    assert (facts.layer, facts.d_in, facts.d_out, facts.d_sae) == (1, D_MODEL, D_MODEL, 96)
    assert (facts.architecture, facts.prepend_bos) == ("topk", True)


def test_not_a_folder(folder: Path) -> None:
    refused(folder / "nowhere", "nowhere is not a folder; give the folder that holds a SAELens")


def test_no_config(folder: Path) -> None:
    (folder / "cfg.json").unlink()
    refused(folder, r"has no cfg\.json")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_unreadable_config(folder: Path, text: str) -> None:
    (folder / "cfg.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"cfg\.json (cannot be read as JSON|holds no JSON object)")


@pytest.mark.parametrize("architecture", ["temporal", "relu", 7])
def test_unknown_architecture(folder: Path, architecture: object) -> None:
    edit(folder, architecture=architecture)
    refused(folder, rf"{architecture!r} .* cannot be used; it can be one of standard, topk, jump")


@pytest.mark.parametrize(("name", "value"), [("d_in", None), ("d_sae", "96"), ("d_sae", 0)])
def test_no_sizes(folder: Path, name: str, value: object) -> None:
    edit(folder, **{name: value})
    refused(folder, f"no whole number for {name}")


@pytest.mark.parametrize("hook_name", [None, "hook_embed", 3, "blocks.x.hook_resid_post"])
def test_no_hook(folder: Path, hook_name: object) -> None:
    edit_metadata(folder, hook_name=hook_name)
    refused(folder, r"names no hook point of a block \(metadata\.hook_name is")


@pytest.mark.parametrize("metadata", ["x", [1], 3])
def test_no_metadata(folder: Path, metadata: object) -> None:
    edit(folder, metadata=metadata)
    refused(folder, "SAELens cannot read")


@pytest.mark.parametrize("metadata", [{"prepend_bos": "yes"}, {"model_from_pretrained_kwargs": 1}])
def test_metadata_of_the_wrong_kind(folder: Path, metadata: dict[str, Any]) -> None:
    edit_metadata(folder, **metadata)
    refused(folder, rf"metadata\.{next(iter(metadata))} in .*; it must be (bool|int|dict)")


def test_a_single_head(folder: Path) -> None:
    edit_metadata(folder, hook_name="blocks.0.attn.hook_z", hook_head_index=2)
    refused(folder, "reads a single attention head")


@pytest.mark.parametrize("name", ["expected_average_only_in", "covariance_whitening"])
def test_factors_that_are_not_there(folder: Path, name: str) -> None:
    edit(folder, normalize_activations=name)
    refused(folder, f"expects inputs under '{name}', whose factors .* fold them")


def test_a_setting_that_sae_lens_refuses(folder: Path) -> None:
    edit(folder, dtype="float99")
    refused(folder, "SAELens cannot make an SAE")


@pytest.mark.parametrize("name", ["sae_weights.pt", "ae.bin", "sae.npz"])
def test_pickles(folder: Path, name: str) -> None:
    (folder / "sae_weights.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    refused(folder, rf"as a pickle \({name}\).*never opened here; load it with SAELens where you")


def test_no_weights(folder: Path) -> None:
    (folder / "sae_weights.safetensors").unlink()
    refused(folder, r"has no sae_weights\.safetensors")


@pytest.mark.parametrize("size", [0, 4, 200, -1])
def test_weights_cut_short(folder: Path, size: int) -> None:
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    refused(folder, "is not a whole safetensors file")


def test_a_tensor_is_missing(folder: Path) -> None:
    file = folder / "sae_weights.safetensors"
    weights = load_file(file)
    del weights["b_enc"]
    save_file(weights, file)
    refused(folder, "has no tensor b_enc, which the architecture 'topk' needs; it has W_dec, W_enc")


def test_shapes_that_do_not_match(folder: Path) -> None:
    file = folder / "sae_weights.safetensors"
    save_file(load_file(file) | {"W_enc": torch.zeros(D_MODEL, 95)}, file)
    refused(folder, r"W_enc in .* has shape \[32, 95\], but cfg\.json \(d_in 32, d_sae 96\)")


def test_a_width_that_does_not_match(folder: Path) -> None:
    edit(folder, d_in=64)
    refused(folder, "asks for")
