"""Transcoders of circuit-tracer: one `layer_N.safetensors`, with `config.yaml` beside it or not
(github.com/safety-research/circuit-tracer, `single_layer_transcoder.py`).

z = x W_encᵀ + b_enc, f = ReLU(z), or z where it is above `activation_function.threshold`, and
ŷ = f W_dec + b_dec, to which skip transcoders add x W_skipᵀ. W_enc and W_dec are both (features,
d_model).
"""

import re
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from app.errors import Invalid
from worker.folders import one_line
from worker.foreign.parts import Foreign, Told
from worker.foreign.tensors import Tensors, read_safetensors

FORMAT = "circuit_tracer"
MOST_BYTES = 2**20
_FILES = "layer_*.safetensors"
_THRESHOLD = "activation_function.threshold"


def is_here(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return any(folder.glob(_FILES))


def read(folder: Path, told: Told) -> Foreign:
    """The transcoder in a folder of one."""
    files = sorted(folder.glob(_FILES))
    if len(files) > 1:
        raise Invalid(
            f"{folder} holds transcoders of {len(files)} layers; give a folder with one of them, "
            "and config.yaml where there is one."
        )
    (file,) = files
    tensors, config = read_safetensors(file), _config(folder / "config.yaml")
    if "k" in tensors:
        raise Invalid(f"{file} is a TopK transcoder, for which SAELens has no architecture.")
    hook = told.read_at(_hook_name(config.get("feature_input_hook"), file), file)
    out = told.written_at(_hook_name(config.get("feature_output_hook"), file), file)
    model = config.get("model_name")
    return Foreign(
        format=FORMAT,
        architecture=_architecture(tensors),
        hook_name=hook,
        hook_name_out=out,
        weights=_weights(tensors),
        subtracts_b_dec=False,
        model_name=model if isinstance(model, str) else None,
    )


class _Plain(yaml.SafeLoader):
    """Takes no aliases: a few, nested, stand for more than there is memory for."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which are not taken")
        return super().compose_node(parent, index)


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        config = yaml.load(file.read_text(), _Plain)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Invalid(f"{file} cannot be read as YAML ({one_line(error)}).") from error
    return config if isinstance(config, dict) else {}


def _hook_name(site: object, file: Path) -> str | None:
    layer = re.search(r"_(\d+)$", file.stem)
    return f"blocks.{layer[1]}.{site}" if isinstance(site, str) and layer else None


def _architecture(tensors: Tensors) -> str:
    return "jumprelu_" * (_THRESHOLD in tensors) + "skip_" * ("W_skip" in tensors) + "transcoder"


def _weights(tensors: Tensors) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {
        "W_enc": tensors.matrix("W_enc").T,
        "b_enc": tensors.vector("b_enc"),
        "W_dec": tensors.matrix("W_dec"),
        "b_dec": tensors.vector("b_dec"),
    }
    if _THRESHOLD in tensors:
        weights["threshold"] = tensors.spread(_THRESHOLD, weights["W_enc"].shape[1])
    if "W_skip" in tensors:
        weights["W_skip"] = tensors.matrix("W_skip")
    return weights
