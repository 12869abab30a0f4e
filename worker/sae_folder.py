"""What a SAELens folder is, and whether it can be loaded: read from cfg.json and tensor headers."""

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

from app.errors import Invalid
from worker.building import one_at_a_time
from worker.folders import (
    check_folder,
    one_line,
    read_config,
    refuse_pickles,
    shown,
    tensor_shapes,
)

ARCHITECTURES = (
    "standard",
    "topk",
    "jumprelu",
    "gated",
    "abstopk",
    "matching_pursuit",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)
"""SAELens architectures that can be used. Batch-TopK and Matryoshka SAEs are saved as jumprelu."""

NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
"""Input normalisations that need nothing but the input."""

_METADATA: dict[str, type] = {
    "hook_name_out": str,
    "prepend_bos": bool,
    "model_from_pretrained_kwargs": dict,
}
"""Fields of the metadata that are used, each of which may be absent."""

_WHAT = "a SAELens SAE (cfg.json, sae_weights.safetensors)"
_CONVERT = (
    "load it with SAELens where you trust it, save it with `sae.save_model(new_folder)`, and give "
    "the new folder."
)


@dataclass(frozen=True)
class SaeFacts:
    """What the files of a SAELens folder say."""

    hook_name: str
    """Where it reads."""
    hook_out: str
    """Where its reconstruction belongs; `hook_name` but for transcoders."""
    layer: int
    d_in: int
    d_out: int
    d_sae: int
    architecture: str
    prepend_bos: bool | None
    processing: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments that the author's model was loaded with."""


def check_sae_folder(path: Path) -> SaeFacts:
    """Compare the configuration with the headers of the weights; load nothing.

    Raises:
        Invalid: with one sentence on what is wrong, what is allowed and what to do.
    """
    check_folder(path, _WHAT)
    if not (path / "sae_weights.safetensors").is_file():
        refuse_pickles(path, _CONVERT)
    config = _read_sae_config(path / "cfg.json")
    metadata = config["metadata"]
    hook_name = _hook_name(path, metadata)
    _check_normalisation(path, config)
    _check_shapes(path, config)
    return SaeFacts(
        hook_name=hook_name,
        hook_out=metadata.get("hook_name_out") or hook_name,
        layer=int(hook_name.split(".")[1]),
        d_in=config["d_in"],
        d_out=config.get("d_out", config["d_in"]),
        d_sae=config["d_sae"],
        architecture=config["architecture"],
        prepend_bos=metadata.get("prepend_bos"),
        processing=metadata.get("model_from_pretrained_kwargs") or {},
    )


def _read_sae_config(file: Path) -> dict[str, Any]:
    """cfg.json in SAELens' present form, with older ones translated by SAELens."""
    config = read_config(file, _WHAT)
    architecture = config.get("architecture", "standard")
    if architecture not in ARCHITECTURES:
        raise Invalid(
            f"The architecture {shown(architecture)} in {file} cannot be used; it can be one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    for name in ("d_in", "d_sae"):
        if not isinstance(config.get(name), int) or config[name] < 1:
            raise Invalid(f"{file} gives no whole number for {name}; save {_WHAT} again.")
    try:
        config = handle_config_defaulting(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(
            f"SAELens cannot read {file} ({one_line(error)}); save {_WHAT} again."
        ) from error
    metadata = config.get("metadata") or {}
    for name, kind in _METADATA.items():
        if not isinstance(metadata.get(name), kind | None):
            raise Invalid(
                f"metadata.{name} in {file} is {shown(metadata[name])}; it must be {kind.__name__}."
            )
    return {**config, "metadata": metadata}


def _hook_name(path: Path, metadata: dict[str, Any]) -> str:
    hook_name = metadata.get("hook_name")
    if not isinstance(hook_name, str) or not re.match(r"blocks\.\d+\.", hook_name):
        raise Invalid(
            f"{path / 'cfg.json'} names no hook point of a block (metadata.hook_name is "
            f"{shown(hook_name)}); write one such as blocks.2.hook_resid_post."
        )
    if metadata.get("hook_head_index") is not None:
        raise Invalid(
            f"The SAE in {path} reads a single attention head (metadata.hook_head_index); give "
            "one that reads a whole hook point."
        )
    return hook_name


def _check_normalisation(path: Path, config: dict[str, Any]) -> None:
    normalisation = config.get("normalize_activations", "none")
    if normalisation not in NORMALISATIONS:
        raise Invalid(
            f"The SAE in {path} expects inputs under {shown(normalisation)}, whose factors its folder "
            "does not hold; fold them into the weights with SAELens "
            "(`sae.fold_activation_norm_scaling_factor`, `sae.fold_activation_whitening`), save "
            "it and give the new folder."
        )


def _check_shapes(path: Path, config: dict[str, Any]) -> None:
    file = path / "sae_weights.safetensors"
    if not file.is_file():
        raise Invalid(f"{path} has no {file.name}; give the folder that holds {_WHAT}.")
    found = tensor_shapes(file)
    for name, shape in _expected_shapes(path, config).items():
        if name not in found:
            raise Invalid(
                f"{file} has no tensor {name}, which the architecture {config['architecture']!r} "
                f"needs; it has {', '.join(sorted(found))[:300] or 'none'}."
            )
        if found[name] != shape:
            raise Invalid(
                f"{name} in {file} has shape {list(found[name])}, but cfg.json (d_in "
                f"{config['d_in']}, d_sae {config['d_sae']}) asks for {list(shape)}; save "
                "configuration and weights together."
            )


@one_at_a_time
def _expected_shapes(path: Path, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a SAELens module of this configuration, made without memory."""
    try:
        with warnings.catch_warnings(action="ignore"):
            sae = SAE.from_dict({**config, "device": "meta"})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Invalid(
            f"SAELens cannot make an SAE of {path / 'cfg.json'} ({one_line(error)}); save {_WHAT} again."
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
