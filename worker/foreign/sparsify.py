"""EleutherAI's sparsify: `cfg.json` and `sae.safetensors` (github.com/EleutherAI/sparsify).

f(x) keeps the k largest of ReLU((x − b_dec) W_eᵀ + b_e), and x̂ = f W_dec + b_dec; `signed` ones of
older versions keep the k of largest magnitude, without ReLU. `encoder.weight` and `W_dec` are both
(latents, d_in). SAELens 6.54 reads W_dec the other way round, and takes `normalize_decoder`, which
is about training, to say that b_dec is not subtracted; its reader is not used for that.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.errors import Invalid
from worker.folders import read_config
from worker.foreign.parts import Foreign, Told, whole
from worker.foreign.tensors import Tensors, read_safetensors

FORMAT = "sparsify"
_WHAT = "a sparsify SAE (cfg.json, sae.safetensors)"
_BEYOND = ("transcode", "skip_connection", "embed_skip", "gram_lookup")
"""Options that make another model of it, for which SAELens has no class."""
_SITES = {None: "hook_resid_post", "mlp": "hook_mlp_out", "attn": "hook_attn_out",
          "self_attn": "hook_attn_out", "attention": "hook_attn_out"}  # fmt: skip
_MODULE = r"^(?:.*\.)?(?:layers|h|blocks)[._](\d+)(?:[._](mlp|attn|self_attn|attention))?$"


def is_here(folder: Path) -> bool:
    """Whether a folder is of this format."""
    return (folder / "sae.safetensors").is_file()


def read(folder: Path, told: Told) -> Foreign:
    """The SAE in a folder, whose name is that of the module it reads: `layers.5`, `layers.5.mlp`."""
    file = folder / "cfg.json"
    config = read_config(file, _WHAT)
    _refuse_beyond(config, file)
    told.refuse_output(file)
    return Foreign(
        format=FORMAT,
        architecture="abstopk" if config.get("signed") else "topk",
        hook_name=told.read_at(_hook_name(folder.name), f"The folder's name, {folder.name},"),
        weights=_weights(read_safetensors(folder / "sae.safetensors")),
        subtracts_b_dec=True,
        k=whole(config, "k", file),
    )


def _refuse_beyond(config: dict[str, Any], file: Path) -> None:
    activation = config.get("activation", "topk")
    wrong = [f"activation {activation}"] if activation != "topk" else []
    wrong += [name for name in _BEYOND if config.get(name)]
    if wrong:
        raise Invalid(
            f"{file} has {', '.join(wrong)}, for which SAELens has no architecture; only plain TopK "
            "SAEs of sparsify can be loaded."
        )


def _hook_name(module: str) -> str | None:
    found = re.match(_MODULE, module)
    return f"blocks.{found[1]}.{_SITES[found[2]]}" if found else None


def _weights(tensors: Tensors) -> dict[str, Tensor]:
    w_enc = tensors.matrix("encoder.weight").T
    bias = "encoder.bias" in tensors
    return {
        "W_enc": w_enc,
        "b_enc": tensors.vector("encoder.bias") if bias else torch.zeros(w_enc.shape[1]),
        "W_dec": tensors.matrix("W_dec"),
        "b_dec": tensors.vector("b_dec"),
    }
