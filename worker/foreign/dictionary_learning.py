"""dictionary_learning: `config.json` and `ae.pt` (github.com/saprmarks/dictionary_learning).

With W_e, W_d the weights, b_d the decoder's bias and ReLU written r:

| dict_class | f(x) |
|---|---|
| AutoEncoder | r((x − b_d) W_e + b_e) |
| AutoEncoderNew | r(x W_e + b_e) |
| AutoEncoderTopK | the k largest of r((x − b_d) W_e + b_e) |
| BatchTopKSAE, MatryoshkaBatchTopKSAE | r(z) where r(z) > threshold, z = (x − b_d) W_e + b_e |
| GatedAutoEncoder | r(e^r_mag z + mag_bias) where z + gate_bias > 0, z = (x − b_d) W_e |
| JumpReluAutoEncoder | r(z) where z > threshold, z = x W_e + b_e |

and x̂ = f W_d + b_d. The last two classes report f times the length of the feature's decoder row,
which is what is reported here for every SAE.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from app.errors import Invalid
from worker.folders import read_config
from worker.foreign.parts import Foreign, Told, whole
from worker.foreign.tensors import Tensors, read_weights

FORMAT = "dictionary_learning"
_WHAT = "a dictionary_learning SAE (config.json, ae.pt)"
_CLASSES = {
    "AutoEncoder": ("standard", True),
    "AutoEncoderNew": ("standard", False),
    "AutoEncoderTopK": ("topk", True),
    "BatchTopKSAE": ("jumprelu", True),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True),
    "GatedAutoEncoder": ("gated", True),
    "JumpReluAutoEncoder": ("jumprelu", False),
}
"""SAELens' architecture, and whether b_d is subtracted from the input."""
_SITE = r"(resid_pre|resid_mid|resid_post|attn_out|mlp_out)"


def is_here(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return (folder / "ae.pt").is_file() or (folder / "ae.safetensors").is_file()


def read(folder: Path, told: Told) -> Foreign:
    """The SAE in a folder."""
    file = folder / "config.json"
    trainer = read_config(file, _WHAT).get("trainer")
    if not isinstance(trainer, dict) or str(trainer.get("dict_class")) not in _CLASSES:
        raise Invalid(
            f"{file} names no dictionary class that can be used (trainer.dict_class); it can be one "
            f"of {', '.join(_CLASSES)}."
        )
    told.refuse_output(file)
    architecture, subtracts = _CLASSES[trainer["dict_class"]]
    tensors = read_weights(folder, "ae")
    return Foreign(
        format=FORMAT,
        architecture=architecture,
        hook_name=_hook_name(trainer, told, file),
        weights=_weights(architecture, tensors),
        subtracts_b_dec=subtracts,
        k=_k(trainer, tensors, file) if architecture == "topk" else None,
        model_name=str(trainer["lm_name"]) if trainer.get("lm_name") else None,
    )


def _hook_name(trainer: dict[str, Any], told: Told, file: Path) -> str:
    """`submodule_name` is free text that often holds the site. Where there is none, it is the residual
    stream after the layer, which is what the library's own scripts train on."""
    layer, submodule = trainer.get("layer"), trainer.get("submodule_name")
    if not submodule and told.hook_name:
        return told.hook_name
    site = re.search(_SITE, str(submodule or "resid_post"))
    found = f"blocks.{layer}.hook_{site[1]}" if site and isinstance(layer, int) else None
    return told.read_at(found, file)


def _k(trainer: dict[str, Any], tensors: Tensors, file: Path) -> int:
    k, stored = whole(trainer, "k", file), tensors.whole("k")
    if stored not in (None, k):
        raise Invalid(f"k is {k} in {file}, but {stored} in {tensors.path}; save the SAE again.")
    return k


def _weights(architecture: str, tensors: Tensors) -> dict[str, Tensor]:
    own = "W_enc" in tensors  # the others are torch.nn.Linear, whose weights lie the other way
    w_enc = tensors.matrix("W_enc") if own else tensors.matrix("encoder.weight").T
    w_dec = tensors.matrix("W_dec") if own else tensors.matrix("decoder.weight").T
    weights = {
        "W_enc": w_enc,
        "W_dec": w_dec,
        "b_dec": tensors.vector("b_dec", "bias", "decoder_bias", "decoder.bias"),
    }
    if architecture == "gated":
        names = {"r_mag": "r_mag", "b_gate": "gate_bias", "b_mag": "mag_bias"}
        return weights | {ours: tensors.vector(theirs) for ours, theirs in names.items()}
    weights["b_enc"] = tensors.vector("b_enc", "encoder.bias")
    if architecture == "jumprelu":
        weights["threshold"] = tensors.spread("threshold", w_enc.shape[1])
    return weights
