"""Nearest features of a dictionary by the cosine of their decoder rows: exact, in blocks."""

import torch
from jaxtyping import Float, Int

from worker.precompute.settings import NEIGHBORS

_BLOCK = 2**25
"""Cosines in memory at a time."""


def nearest(
    directions: Float[torch.Tensor, "d_sae d_out"], first: int, stop: int
) -> tuple[Int[torch.Tensor, "features n"], Float[torch.Tensor, "features n"]]:
    """Features most similar to features `first` to `stop`, the nearest first, and their cosines.

    `directions` are all unit decoder rows; a feature is not its own neighbour.
    """
    n = min(NEIGHBORS, len(directions) - 1)
    indices, cosines = [], []
    size = max(1, _BLOCK // len(directions))
    for low in range(first, stop, size):
        own = torch.arange(low, min(low + size, stop), device=directions.device)
        cosine = directions[own] @ directions.T
        cosine[torch.arange(len(own)), own] = -torch.inf
        found = cosine.topk(n)
        indices.append(found.indices)
        cosines.append(found.values)
    return torch.cat(indices), torch.cat(cosines)
