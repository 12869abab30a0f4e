"""Which tokens a feature promotes and suppresses by itself: its direct effect on the logits.

The feature's unit decoder row, carried to the residual stream, goes through the linear part of the
final norm (its elementwise gain, and centring where it is a LayerNorm) and the unembedding:

    logits(f) = (gain * centred(d_f)) @ W_U

What the norm divides by depends on the token and is left out, as is all that later layers do to
the direction and any scaling or soft cap of the logits, so values compare within a feature and
between features of one dictionary, but are no logit differences of any text.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import nn

from worker.models import LanguageModel
from worker.precompute.norms import LinearPart, is_norm
from worker.precompute.settings import LOGITS

_BLOCK = 2**25
"""Logits in memory at a time."""


class Promoted(NamedTuple):
    """Tokens and their logits, the most extreme first; int64 and float32 [features, n]."""

    top: tuple[torch.Tensor, torch.Tensor]
    bottom: tuple[torch.Tensor, torch.Tensor]


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
        tops, bottoms = [], []
        for block in self._through_norm(directions).split(max(1, _BLOCK // len(weight))):
            logits = block @ weight.T
            tops.append(logits.topk(n))
            bottoms.append(logits.topk(n, largest=False))
        return Promoted(_joined(tops), _joined(bottoms))


def nothing_promoted(features: int) -> Promoted:
    """For dictionaries that do not write to the residual stream."""
    none = torch.empty(features, 0, dtype=torch.long), torch.empty(features, 0)
    return Promoted(none, none)


def _joined(parts: list[torch.return_types.topk]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])


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
