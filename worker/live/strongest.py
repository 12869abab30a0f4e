"""The strongest active features of every token, ties by the lower index.

Most SAEs are sparse: their active features come as lists, and only these are ordered. A signed
source (neurons) is dense: there `topk` selects, and rows where it had to choose between equal
values are sorted in full, since which of them it takes is undefined.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from worker.saes import Dictionary


@dataclass(frozen=True)
class Strongest:
    """Lists ordered by token, then strongest first. `_` entries over t tokens."""

    token: Int[np.ndarray, "_"]
    feature: Int[np.ndarray, "_"]
    value: Float[np.ndarray, "_"]
    rank: Int[np.ndarray, "_"]
    """Place among its token's, from 0."""

    def part(self, start: int, stop: int, top_k: int | None = None) -> "Strongest":
        """The strongest, at most `top_k`, of tokens start .. stop-1, counted from 0."""
        low, high = np.searchsorted(self.token, [start, stop])
        if top_k is None:
            kept = np.arange(low, high)
        else:
            kept = low + np.flatnonzero(self.rank[low:high] < top_k)
        return Strongest(
            self.token[kept] - start, self.feature[kept], self.value[kept], self.rank[kept]
        )


def strongest(dictionary: Dictionary, x: Float[torch.Tensor, "t w"], top_k: int) -> Strongest:
    """The `top_k` strongest features above 0 at every token, in folded units."""
    lists = (
        _from_dense(dictionary.encode(x), top_k)
        if dictionary.signed
        else (dictionary.encode_sparse(x))
    )
    token, feature, value = (part.cpu().numpy() for part in lists)
    active = np.flatnonzero(value > 0)
    order = active[np.lexsort((feature[active], -value[active], token[active]))]
    token, feature, value = token[order], feature[order], value[order]
    rank = np.arange(len(token)) - np.searchsorted(token, token)
    kept = rank < top_k
    return Strongest(token[kept], feature[kept], value[kept], rank[kept])


def _from_dense(
    values: Float[torch.Tensor, "t f"], top_k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(token, feature, value) lists that hold the `top_k` largest of every row."""
    top_k = min(top_k, values.shape[1])
    best, feature = values.topk(top_k, sorted=True)
    last = best[:, -1:]
    undecided = ((values == last).sum(-1) > (best == last).sum(-1)).nonzero()[:, 0]
    if len(undecided):
        ordered = values[undecided].sort(dim=-1, descending=True, stable=True)
        best[undecided] = ordered.values[:, :top_k]
        feature[undecided] = ordered.indices[:, :top_k]
    token = torch.arange(len(values), device=values.device)[:, None].expand_as(feature)
    return token.flatten(), feature.flatten(), best.flatten()
