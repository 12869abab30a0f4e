"""Which tokens a feature promotes and suppresses by itself: its direct effect on the logits.

The feature's unit decoder row, carried to the residual stream, goes through the linear part of the
final norm (its elementwise gain, and centring where it is a LayerNorm) and the unembedding:

    logits(f) = (gain * centred(d_f)) @ W_U

What the norm divides by depends on the token and is left out, as is all that later layers do to
the direction and any scaling or soft cap of the logits, so values compare within a feature and
between features of one dictionary, but are no logit differences of any text.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import nn

from worker.models import LanguageModel
from worker.precompute.norms import LinearPart, is_norm
from worker.precompute.settings import LOGIT_BINS, LOGITS

_BLOCK = 2**25
"""Logits in memory at a time."""


class Promoted(NamedTuple):
    """Tokens and their logits, the most extreme first; int64 and float32 [features, n]."""

    top: tuple[torch.Tensor, torch.Tensor]
    bottom: tuple[torch.Tensor, torch.Tensor]
    range: Float[torch.Tensor, "features 2"]
    """The lowest and the highest logit."""
    counts: Int[torch.Tensor, "features bins"]
    """int32: tokens by logit, in `LOGIT_BINS` bins of equal width over that range."""


class Unembedding:
    """The linear part of what a model does with the last residual stream."""

    def __init__(self, model: LanguageModel) -> None:
        norm = _final_norm(model)
        self._through_norm = LinearPart(norm, model) if norm else lambda directions: directions
        self._weight = cast(nn.Module, model.hf.get_output_embeddings()).get_parameter("weight")

    def promoted(self, directions: Float[torch.Tensor, "features d_model"]) -> Promoted:
        """The `LOGITS` tokens that each direction promotes and suppresses most."""
        n = min(LOGITS, len(self._weight))
        weight = self._weight.float()
        parts: list[Promoted] = []
        for block in self._through_norm(directions).split(max(1, _BLOCK // len(weight))):
            logits = block @ weight.T
            top, bottom = logits.topk(n), logits.topk(n, largest=False)
            bounds = torch.stack([bottom.values[:, 0], top.values[:, 0]], dim=1)
            parts.append(
                Promoted(
                    (top.indices, top.values),
                    (bottom.indices, bottom.values),
                    bounds,
                    _histogram(logits, bounds),
                )
            )
        return _joined(parts)


def nothing_promoted(features: int) -> Promoted:
    """For dictionaries that do not write to the residual stream."""
    none = torch.empty(features, 0, dtype=torch.long), torch.empty(features, 0)
    no_counts = torch.empty(features, 0, dtype=torch.int32)
    return Promoted(none, none, torch.zeros(features, 2), no_counts)


def _joined(parts: list[Promoted]) -> Promoted:
    tops, bottoms, ranges, counts = zip(*parts, strict=True)
    return Promoted(
        _columns(tops), _columns(bottoms), torch.cat(list(ranges)), torch.cat(list(counts))
    )


def _columns(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([ids for ids, _ in parts]), torch.cat([values for _, values in parts])


def _histogram(
    logits: Float[torch.Tensor, "features vocab"], bounds: Float[torch.Tensor, "features 2"]
) -> Int[torch.Tensor, "features bins"]:
    """Bin floor(bins (v - lowest) / (highest - lowest)), the highest in the last one."""
    low, width = bounds[:, :1], (bounds[:, 1:] - bounds[:, :1]).clamp(min=1e-30)
    bins = ((logits - low) / width * LOGIT_BINS).int().clamp_(max=LOGIT_BINS - 1)
    row = torch.arange(len(logits), device=logits.device, dtype=torch.int32)[:, None]
    counts = torch.bincount((bins + row * LOGIT_BINS).flatten(), minlength=len(logits) * LOGIT_BINS)
    return counts.reshape(-1, LOGIT_BINS).int()


@torch.inference_mode()
def _final_norm(model: LanguageModel) -> nn.Module | None:
    """The last norm that a forward runs before the unembedding, if there is one."""
    ran: list[nn.Module] = []
    norms = [module for module in model.hf.modules() if is_norm(module)]
    handles = [norm.register_forward_hook(lambda module, *_: ran.append(module)) for norm in norms]
    try:
        ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        model.hf(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran else None
