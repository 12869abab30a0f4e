"""Feature directions as the residual stream sees them.

What is written at `resid_*`, `attn_out` and `mlp_out` is a residual vector already. What is written
at `mlp.hook_post` and `hook_z` passes the projection behind that site first (W_out, W_O), and the
linear part of the norm behind that where there is one (Gemma 2 and 3, OLMo 2).
"""

import re

import torch
from jaxtyping import Float
from torch import nn

from worker.models import LanguageModel
from worker.precompute.norms import LinearPart, is_norm

_RESIDUAL = re.compile(r"blocks\.\d+\.hook_(resid_(pre|mid|post)|attn_out|mlp_out)")
_PROJECTED = re.compile(r"blocks\.\d+\.(mlp\.hook_post|attn\.hook_z)")
_AFTER_OWN_MLP = re.compile(r"blocks\.\d+\.(hook_resid_post|hook_mlp_out|mlp\.hook_post)")


def to_residual(
    model: LanguageModel, hook_name: str, vectors: Float[torch.Tensor, "n width"]
) -> Float[torch.Tensor, "n d_model"] | None:
    """What vectors written at a hook point add to the residual stream, float32.

    None for hook points that do not write to the stream in a linear way (queries, keys, ...).
    """
    if _RESIDUAL.fullmatch(hook_name):
        return vectors
    if _PROJECTED.fullmatch(hook_name):
        return vectors @ projection(model, hook_name)
    return None


def projection(model: LanguageModel, hook_name: str) -> Float[torch.Tensor, "width d_model"]:
    """W_out of the layer for `mlp.hook_post`, W_O for `hook_z`, with the gain of a norm behind it;
    float32, a row a neuron."""
    module = model.hf.get_submodule(model.site(hook_name).module)
    weight = module.get_parameter("weight").float()
    rows = weight.T if isinstance(module, nn.Linear) else weight  # else GPT-2's Conv1D
    norm = _norm_behind(model, hook_name)
    return rows if norm is None else LinearPart(norm, model)(rows)


def _norm_behind(model: LanguageModel, hook_name: str) -> nn.Module | None:
    """The norm between a projection and the stream: its output is then what the block adds."""
    block, kind = re.split(r"\.(?=mlp|attn)", hook_name)
    added = f"{block}.hook_{kind.split('.')[0]}_out"
    if added not in model.sites:
        return None
    module = model.hf.get_submodule(model.sites[added].module)
    return module if is_norm(module) else None


def layers_before(hook_name: str) -> range:
    """Layers whose MLP can have written to the residual stream when `hook_name` is written."""
    layer = int(hook_name.split(".")[1])
    return range(layer + 1 if _AFTER_OWN_MLP.fullmatch(hook_name) else layer)
