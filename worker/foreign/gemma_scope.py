"""Gemma Scope: `params.npz`, and Gemma Scope 2: `config.json` and `params.safetensors`.

f(x) = ReLU(z) where z > threshold, z = x w_enc + b_enc, and x̂ = f w_dec + b_dec, to which affine
transcoders add x A (arXiv:2408.05147; the layouts are those that SAELens reads, `gemma_2` and
`gemma_3` in its `pretrained_sae_loaders.py`). An npz file does not say where it reads; a transcoder
is one that the caller gives a `hook_name_out`.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from app.errors import Invalid
from worker.folders import read_config, shown
from worker.foreign.parts import Foreign, Told
from worker.foreign.tensors import Tensors, read_npz, read_safetensors

FORMAT = "gemma_scope"
_WHAT = "a Gemma Scope 2 SAE (config.json, params.safetensors)"
_SITES = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "post_feedforward_layernorm.output": "hook_mlp_out",
}
"""Hugging Face's sites in a layer of Gemma 3, and TransformerLens' names for them."""


def is_here(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return (folder / "params.npz").is_file() or (folder / "params.safetensors").is_file()


def read(folder: Path, told: Told) -> Foreign:
    """The SAE or transcoder in a folder."""
    if (folder / "params.npz").is_file():
        tensors = read_npz(folder / "params.npz")
        return _foreign(tensors, told.read_at(None, tensors.path), told.hook_name_out, None)
    file = folder / "config.json"
    config = read_config(file, _WHAT)
    if config.get("architecture") != "jump_relu":
        raise Invalid(
            f"The architecture in {file} is {shown(config.get('architecture'))}; it can be jump_relu."
        )
    reads, writes = (config.get(f"hf_hook_point_{side}") for side in ("in", "out"))
    out = None
    if told.hook_name_out or (writes and writes != reads):
        out = told.written_at(hook_point(writes), file)
    tensors = read_safetensors(folder / "params.safetensors")
    return _foreign(tensors, told.read_at(hook_point(reads), file), out, config.get("model_name"))


def _foreign(tensors: Tensors, hook: str, out: str | None, model: Any) -> Foreign:
    if "scaling_factor" in tensors:
        raise Invalid(
            f"{tensors.path} has a scaling_factor, which SAELens does not undo either; fold it into "
            "the weights."
        )
    weights = _weights(tensors)
    kind = "_skip" * ("W_skip" in weights) + "_transcoder" * (out is not None)
    if kind == "_skip":
        raise Invalid(f"{tensors.path} is an affine transcoder, so it needs a `hook_name_out`.")
    return Foreign(
        format=FORMAT,
        architecture=f"jumprelu{kind}",
        hook_name=hook,
        hook_name_out=out,
        weights=weights,
        subtracts_b_dec=False,
        model_name=str(model) if model else None,
    )


def hook_point(site: object) -> str | None:
    """TransformerLens' name for a site in a Hugging Face model of Gemma 3, None for another."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", str(site))
    name = _SITES.get(found[2]) if found else None
    return f"blocks.{found[1]}.{name}" if found and name else None


def _weights(tensors: Tensors) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {
        "W_enc": tensors.matrix("w_enc"),
        "b_enc": tensors.vector("b_enc"),
        "W_dec": tensors.matrix("w_dec"),
        "b_dec": tensors.vector("b_dec"),
        "threshold": tensors.vector("threshold"),
    }
    if "affine_skip_connection" in tensors:  # (d_in d_out); SAELens has (d_out d_in)
        weights["W_skip"] = tensors.matrix("affine_skip_connection").T
    return weights
