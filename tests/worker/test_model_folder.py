"""Every folder that cannot be loaded is refused with a sentence, before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoConfig

from app.errors import Invalid
from tests.worker.tiny import ModelKind
from worker.model_folder import check_model_folder


@pytest.fixture
def folder(folder_of: Callable[[ModelKind], Path], tmp_path: Path) -> Path:
    """A copy of a good folder, to be broken."""
    return Path(shutil.copytree(folder_of("gpt2"), tmp_path / "model"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as caught:
        check_model_folder(folder)
    assert "\n" not in caught.value.detail


def test_a_good_folder(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nA model.\n")
    facts = check_model_folder(folder)
    assert facts.architecture == "GPT2LMHeadModel"
    assert facts.license == "mit"


@pytest.mark.parametrize("readme", ["", "# A model\nlicense: none", "---\nlicense: mit", "---\n"])
def test_no_license_is_made_up(folder: Path, readme: str) -> None:
    (folder / "README.md").write_text(readme)
    assert check_model_folder(folder).license is None


def test_not_a_folder(folder: Path) -> None:
    refused(folder / "config.json", r"config\.json is not a folder; give the folder")
    refused(folder / "nowhere", "nowhere is not a folder")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    refused(folder, r"has no config\.json")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff\xfe"])
def test_unreadable_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"config\.json (cannot be read as JSON|holds no JSON object)")


def test_code_of_its_own(folder: Path) -> None:
    edit(folder / "config.json", model_type="mine", auto_map={"AutoModel": "code.Mine"})
    refused(folder, "brings code of its own .* never run")


def test_code_is_not_run_where_the_library_has_the_architecture(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoConfig": "code.Mine", "AutoModel": "code.Mine"})
    (folder / "code.py").write_text("raise SystemExit('ran')")
    assert check_model_folder(folder).architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize("model_type", ["mine", "vit", "t5", None])
def test_unknown_architecture(folder: Path, model_type: str | None) -> None:
    edit(folder / "config.json", model_type=model_type)
    refused(folder, f"The model type {model_type!r} .* give a causal language model")


def test_an_architecture_without_hook_points(folder: Path) -> None:
    edit(folder / "config.json", model_type="biogpt", hidden_size=32, vocab_size=100)
    refused(folder, "A model of type 'biogpt' .* cannot be wrapped .*; give one that it can wrap")


def test_a_field_of_the_wrong_kind(folder: Path) -> None:
    edit(folder / "config.json", n_layer="three")
    refused(folder, "not a configuration that the transformers library takes .*n_layer")


def test_quantised(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    refused(folder, "are quantised .* float32")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pth"])
def test_pickles(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    refused(folder, rf"as a pickle \({name}\).*never opened here; convert it")


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, r"has no \*\.safetensors file")


@pytest.mark.parametrize("size", [0, 4, 100, -1000, -1])
def test_weights_cut_short(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    refused(folder, "is not a whole safetensors file .* copy it again")


def test_weights_overwritten(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(b"\x00" * 64 + file.read_bytes()[64:])
    refused(folder, "is not a whole safetensors file")


def shard(folder: Path) -> None:
    """Split the weights in two files with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for part, keys in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{part}-of-00002.safetensors"
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(keys, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards(folder: Path) -> None:
    whole = check_model_folder(folder)
    shard(folder)
    assert check_model_folder(folder) == whole


def test_a_missing_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, r"lacks 'model-00002-of-00002\.safetensors', one of 2 files")


def test_a_shard_cut_short(folder: Path) -> None:
    shard(folder)
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    refused(folder, r"model-00001-of-00002\.safetensors is not a whole")


def test_a_tensor_in_no_shard(folder: Path) -> None:
    shard(folder)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["transformer.more"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    refused(folder, "transformer.more")


def test_an_index_that_leaves_the_folder(folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder.parent / "other.safetensors")
    index = {"weight_map": {"x": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "outside")


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, r"has no tokenizer .*save_pretrained")


@pytest.mark.parametrize("name", ["n_layer", "num_hidden_layers"])
def test_more_layers_than_there_are_tensors(folder: Path, name: str) -> None:
    """Each would be a module in memory, whatever the weights are."""
    edit(folder / "config.json", **{name: 10_000_000})
    refused(folder, r"10,000,000 for n(um_hidden)?_layers?, which the \d+ tensors")


@pytest.mark.parametrize("changes", [
    {"vocab_size": 10**9},
    {"n_positions": 10**8},
    {"n_inner": 10**10},
    {"n_embd": 2**20},
])  # fmt: skip
def test_more_numbers_than_there_are_weights(folder: Path, changes: dict[str, int]) -> None:
    """They would be allocated before anybody finds that they are not there."""
    edit(folder / "config.json", **changes)
    refused(folder, r"describes a model of [\d,]+ numbers, and its weights have")


def test_masks_that_no_weight_bears_out(folder: Path) -> None:
    """GPT-Neo keeps a square of the longest context in every layer."""
    config = GPTNeoConfig(
        vocab_size=500, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]],
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    check_model_folder(folder)
    edit(folder / "config.json", max_position_embeddings=20_000)
    refused(folder, "describes a model of 80")


def test_experts_that_are_not_there(folder_of: Callable[[ModelKind], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("mixtral"), tmp_path / "model"))
    check_model_folder(folder)
    edit(folder / "config.json", num_local_experts=50_000_000)
    refused(folder, "50,000,000 for num_local_experts")


def test_a_configuration_that_goes_on_and_on(folder: Path) -> None:
    with (folder / "config.json").open("w") as file:
        file.truncate(2**26 + 1)
    refused(folder, r"config\.json is larger than")


@pytest.mark.parametrize("listed", [None, [1], "x", {"a": 1}, {"a": ["b"]}, {"a": "x" * 300}])
def test_an_index_that_lists_no_files(folder: Path, listed: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    refused(folder, "names no files|lacks 'xxx")


def test_weights_without_tensors(folder: Path) -> None:
    save_file({}, folder / "model.safetensors")
    refused(folder, "has no tensors")


def test_an_architecture_that_is_a_list(folder: Path) -> None:
    edit(folder / "config.json", model_type=["gpt2"], auto_map={})
    refused(folder, "brings code of its own")
