"""OpenAI's: one `.pt` file (github.com/openai/sparse_autoencoder, `model.py`).

z = (x' − pre_bias) W_eᵀ + latent_bias, f = ReLU(z) or ReLU of the k largest of z, and
x̂' = f W_dᵀ + pre_bias. With TopK x' is x under LayerNorm, (x − mean) / (std + 1e-5), and
x̂ = x̂' std + mean. The file does not say which model, or which hook point, it is for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from app.errors import Invalid
from worker.foreign.parts import Foreign, Told, whole
from worker.foreign.tensors import Tensors, read_pt

FORMAT = "openai"


def is_here(folder: Path) -> bool:
    """Whether a folder may be of this format: its only `.pt` file will tell."""
    return len(list(folder.glob("*.pt"))) == 1


def read(folder: Path, told: Told) -> Foreign:
    """The SAE in the folder's `.pt` file."""
    (file,) = folder.glob("*.pt")
    tensors = read_pt(file)
    _refuse_other(tensors)
    told.refuse_output(file)
    k = _k(tensors)
    return Foreign(
        format=FORMAT,
        architecture="topk" if k else "standard",
        hook_name=told.read_at(None, file),
        weights=_weights(tensors),
        subtracts_b_dec=True,
        normalisation="layer_norm" if k else "none",
        k=k,
    )


def _refuse_other(tensors: Tensors) -> None:
    if "pre_bias" not in tensors or "latent_bias" not in tensors:
        names = ", ".join(sorted(map(str, tensors.found)))[:300] or "nothing"
        raise Invalid(
            f"{tensors.path} holds {names}, which is no layout that is known here; a lone .pt file "
            "can be OpenAI's (pre_bias, latent_bias, encoder.weight, decoder.weight)."
        )


def _k(tensors: Tensors) -> int | None:
    """Active latents of a TopK, None of a ReLU."""
    activation = tensors.found.get("activation", "ReLU")
    state: Any = tensors.found.get("activation_state_dict") or {}
    if activation == "ReLU":
        return None
    after = state.get("postact_fn", "ReLU") if isinstance(state, Mapping) else None
    if activation != "TopK" or after != "ReLU":
        raise Invalid(
            f"{tensors.path} has the activation {activation!r} (then {after!r}); it can be ReLU, or "
            "TopK then ReLU."
        )
    return whole(dict(state), "k", tensors.path)


def _weights(tensors: Tensors) -> dict[str, Tensor]:
    return {
        "W_enc": tensors.matrix("encoder.weight").T,
        "b_enc": tensors.vector("latent_bias"),
        "W_dec": tensors.matrix("decoder.weight").T,
        "b_dec": tensors.vector("pre_bias"),
    }
