"""The MLP neurons that a feature is most like.

- For a feature written at `mlp.hook_post`: the largest entries of its decoder row, by magnitude.
- For one written to the residual stream (there or through `hook_z`): the neurons whose row of W_out
  has the largest cosine with it, by magnitude, among all layers whose MLP comes before.

The weight is that entry, or that cosine, with its sign. Neurons as features have none.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch.nn.functional import normalize

from worker.models import LanguageModel
from worker.precompute.residual import layers_before, projection, to_residual
from worker.precompute.settings import NEURONS


class Aligned(NamedTuple):
    """The `NEURONS` most aligned neurons of each feature, the most aligned first."""

    layer: Int[torch.Tensor, "features n"]
    neuron: Int[torch.Tensor, "features n"]
    weight: Float[torch.Tensor, "features n"]


def aligned_neurons(
    model: LanguageModel, hook_name: str, directions: Float[torch.Tensor, "features d_out"]
) -> Aligned:
    """The neurons most aligned with unit decoder rows that are written at a hook point."""
    if hook_name.endswith("mlp.hook_post"):
        return _strongest(int(hook_name.split(".")[1]), directions)
    best = _strongest(0, directions[:, :0])
    residual = to_residual(model, hook_name, directions)
    if residual is None:
        return best
    residual = normalize(residual, dim=1)
    for layer in layers_before(hook_name):
        if (hook := f"blocks.{layer}.mlp.hook_post") in model.sites:
            cosine = residual @ normalize(projection(model, hook), dim=1).T
            best = _better(best, _strongest(layer, cosine))
    return best


def _strongest(layer: int, weights: Float[torch.Tensor, "features neurons"]) -> Aligned:
    index = weights.abs().topk(min(NEURONS, weights.shape[1])).indices
    return Aligned(torch.full_like(index, layer), index, weights.gather(1, index))


def _better(one: Aligned, other: Aligned) -> Aligned:
    layer, index, weight = (torch.cat(pair, dim=1) for pair in zip(one, other, strict=True))
    kept = weight.abs().topk(min(NEURONS, weight.shape[1])).indices
    return Aligned(layer.gather(1, kept), index.gather(1, kept), weight.gather(1, kept))
