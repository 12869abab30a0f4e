"""What a Hugging Face model folder is, and whether it can be loaded: read in seconds."""

import os
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from app.errors import Invalid
from worker.folders import (
    check_folder,
    one_line,
    read_config,
    refuse_pickles,
    shown,
    tensor_shapes,
)
from worker.sites import Anatomy, count_numbers, learn_anatomy

Shape = tuple[int, ...]
_COUNTED = re.compile("(layer|expert|block)s?$")
_TIED, _BUFFERS = 2, 2**26
"""How much more numbers a model may have than its files: tied weights are saved once, masks never."""
_WHAT = "a Hugging Face model (config.json, *.safetensors, tokenizer.json)"
_INDEX = "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")


@dataclass(frozen=True)
class ModelFacts:
    """What the files of a model folder say."""

    architecture: str
    """Hugging Face class: `LlamaForCausalLM`."""
    license: str | None
    """From the front matter of README.md."""
    anatomy: Anatomy
    """Sizes, and where its hook points are."""


def check_model_folder(path: Path) -> ModelFacts:
    """Read the configuration, the headers of all weights and the list of files, and build the
    architecture without weights; load nothing.

    Raises:
        Invalid: with one sentence on what is wrong, what is allowed and what to do.
    """
    check_folder(path, _WHAT)
    config = read_config(path / "config.json", _WHAT)
    architecture = _check_architecture(path, config)
    shapes = _check_weights(path)
    _check_tokenizer(path)
    loaded = _load_config(path)
    _check_modules(path, loaded, shapes)
    _check_size(path, loaded, shapes)
    return ModelFacts(architecture, _license(path / "README.md"), learn_anatomy(loaded))


def _load_config(path: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # what a field's validator raises is anybody's guess
        raise Invalid(
            f"{path / 'config.json'} is not a configuration that the transformers library takes "
            f"({one_line(error)}); save the model again with `save_pretrained`."
        ) from error


def _check_architecture(path: Path, config: dict[str, Any]) -> str:
    model_type = config.get("model_type")
    if "auto_map" in config and str(model_type) not in CONFIG_MAPPING:
        raise Invalid(
            f"The model in {path} brings code of its own (auto_map in config.json), which is never "
            "run here; give a model whose architecture the transformers library has."
        )
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(model_type))
    if architecture is None:
        raise Invalid(
            f"The model type {shown(model_type)} in {path / 'config.json'} is not a language model that "
            "the transformers library has; give a causal language model such as gpt2, llama, "
            "gemma2, qwen2 or gpt_neox."
        )
    if "quantization_config" in config:
        raise Invalid(
            f"The weights in {path} are quantised (quantization_config in config.json); give the "
            "model in float32, bfloat16 or float16."
        )
    return architecture


def _check_weights(path: Path) -> list[Shape]:
    """Read the headers of all shards; each listed tensor must be in one. The shapes of all tensors."""
    listed = _listed_weights(path)
    files = sorted({path / name for name in listed.values()} or path.glob("*.safetensors"))
    if not files:
        refuse_pickles(
            path,
            "convert it where you trust it, with `AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder)`, and load the new folder.",
        )
        raise Invalid(f"{path} has no *.safetensors file; give the folder that holds {_WHAT}.")
    found = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    if not found:
        raise Invalid(f"{path} has no tensors in its *.safetensors; copy the folder again.")
    missing = sorted(listed.keys() - found.keys())
    if missing:
        raise Invalid(
            f"{path / _INDEX} lists the tensor {missing[0]}, which {listed[missing[0]]} does not "
            "hold; copy the folder again."
        )
    return list(found.values())


def _check_modules(path: Path, config: PreTrainedConfig, shapes: list[Shape]) -> None:
    """Refuse more layers or experts than the weights can be of, before a module is made for each: a
    tensor is of one of them, or counts them in a dimension."""
    most = max([len(shapes), *(size for shape in shapes for size in shape)])
    for name, value in config.get_text_config().to_dict().items():
        if _COUNTED.search(name) and isinstance(value, int) and value > most:
            raise Invalid(
                f"{path / 'config.json'} gives {value:,} for {name}, which the {len(shapes)} tensors of "
                "the weights cannot be of; save the model again with `save_pretrained`."
            )


def _check_size(path: Path, config: PreTrainedConfig, shapes: list[Shape]) -> None:
    """Refuse a configuration of far more numbers than there are weights, before there is memory for
    them."""
    held, described = sum(map(prod, shapes)), count_numbers(config)
    if described > _TIED * held + _BUFFERS:
        raise Invalid(
            f"{path / 'config.json'} describes a model of {described:,} numbers, and its weights "
            f"have {held:,}; save the model again with `save_pretrained`."
        )


def _listed_weights(path: Path) -> dict[str, str]:
    """Tensor -> file, from the index of a model in several files; empty without one."""
    if not (path / _INDEX).is_file():
        return {}
    listed = read_config(path / _INDEX, _WHAT).get("weight_map", {})
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise Invalid(f"weight_map in {path / _INDEX} names no files; copy the folder again.")
    for name in sorted(set(listed.values())):
        if Path(name).name != name:
            raise Invalid(
                f"{path / _INDEX} lists {shown(name)}, outside of the folder; copy it again."
            )
        if not os.path.isfile(path / name):
            raise Invalid(
                f"{path} lacks {shown(name)}, one of {len(set(listed.values()))} files that {_INDEX} "
                "lists; copy the missing files."
            )
    return listed


def _check_tokenizer(path: Path) -> None:
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise Invalid(
            f"{path} has no tokenizer ({', '.join(_TOKENIZERS)}); save the model's tokenizer there "
            "with `tokenizer.save_pretrained`."
        )


def _license(readme: Path) -> str | None:
    if not readme.is_file():
        return None
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0] != "---":
        return None
    for line in lines[1 : lines.index("---", 1) if "---" in lines[1:] else 1]:
        if line.startswith("license:"):
            return line.removeprefix("license:").strip()
    return None
