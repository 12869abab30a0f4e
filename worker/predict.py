"""What a model predicts when states within it are replaced."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import nll_loss

from worker.models import LanguageModel
from worker.resid_mid import put
from worker.sites import Site, add_hook

Visit = Callable[[torch.Tensor], torch.Tensor | None]
"""Sees a state, and gives what is put in its place, if anything."""


def predict(
    model: LanguageModel,
    ids: Int[torch.Tensor, "b s"],
    predicts: Bool[torch.Tensor, "b s_minus_1"],
    visits: dict[Site, Visit],
) -> Float[torch.Tensor, "n v"]:
    """Log probabilities of the tokens after those that `predicts` marks."""
    handles = [
        add_hook(model.hf.get_submodule(site.module), site.side, _putting(site, visit))
        for site, visit in visits.items()
    ]
    try:
        logits = model.hf(input_ids=ids, use_cache=False).logits[:, :-1]
    finally:
        for handle in handles:
            handle.remove()
    return logits[predicts].float().log_softmax(-1)


def cross_entropy(
    predicted: Float[torch.Tensor, "n v"], following: Int[torch.Tensor, "n"]
) -> Float[torch.Tensor, ""]:
    """Summed over the tokens that follow, in float64 on the CPU."""
    return nll_loss(predicted, following, reduction="sum").cpu().double()


def _putting(site: Site, visit: Visit) -> Visit:
    """`visit`, with what it gives put in the place of what it saw."""

    def run(state: torch.Tensor) -> torch.Tensor | None:
        new = visit(state)
        return None if new is None else put(site.hook_name, state, new)

    return run
