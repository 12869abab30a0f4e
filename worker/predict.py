"""What a model predicts when states within it are replaced."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import nll_loss

from worker.models import LanguageModel
from worker.resid_mid import put
from worker.sites import Site, add_hook
from worker.tokens import Batch

_BLOCK_ELEMENTS = 2**24
"""Log probabilities in memory at a time."""

Visit = Callable[[torch.Tensor], torch.Tensor | None]
"""Sees a state, and gives what is put in its place, if anything."""


class Counted(NamedTuple):
    """A batch on the model's device, and which of its tokens count."""

    ids: Int[torch.Tensor, "b s"]
    plain: Bool[torch.Tensor, "b s"]
    """Tokens that are neither special nor padding."""
    predicts: Bool[torch.Tensor, "b s_minus_1"]
    """Those of them that another token follows."""

    @property
    def following(self) -> Int[torch.Tensor, "n"]:
        """The tokens that follow."""
        return self.ids[:, 1:][self.predicts]


def counted(model: LanguageModel, batch: Batch) -> Counted:
    """Which tokens of a batch count."""
    special = torch.from_numpy(model.is_special[batch.ids.numpy()])
    plain = batch.mask & ~special
    predicts = plain[:, :-1] & batch.mask[:, 1:]
    return Counted(*(part.to(model.device) for part in (batch.ids, plain, predicts)))


def predict(
    model: LanguageModel,
    of: Counted,
    visits: dict[Site, Visit],
) -> Float[torch.Tensor, "n v"]:
    """Logits of the tokens that follow."""
    handles = [
        add_hook(model.hf.get_submodule(site.module), site.side, _putting(site, visit))
        for site, visit in visits.items()
    ]
    try:
        logits = model.hf(input_ids=of.ids, use_cache=False).logits[:, :-1]
    finally:
        for handle in handles:
            handle.remove()
    return logits[of.predicts]


def cross_entropy(
    logits: Float[torch.Tensor, "n v"], following: Int[torch.Tensor, "n"]
) -> Float[torch.Tensor, ""]:
    """Summed over the tokens that follow, in float64 on the CPU."""
    parts = [
        nll_loss(part, some, reduction="sum").cpu().double()
        for part, some in zip(
            _log_probabilities(logits), following.split(_rows(logits)), strict=True
        )
    ]
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)


def divergence(
    one: Float[torch.Tensor, "n v"], other: Float[torch.Tensor, "n v"]
) -> Float[torch.Tensor, ""]:
    """Summed KL(one || other) of two sets of logits, in float64 on the CPU."""
    parts = [
        (p.exp() * (p - q)).sum().cpu().double()
        for p, q in zip(_log_probabilities(one), _log_probabilities(other), strict=True)
    ]
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)


def _log_probabilities(
    logits: Float[torch.Tensor, "n v"],
) -> Iterator[Float[torch.Tensor, "rows v"]]:
    """In float32, a few tokens at a time: of a long context they are gigabytes."""
    return (part.float().log_softmax(-1) for part in logits.split(_rows(logits)))


def _rows(logits: Float[torch.Tensor, "n v"]) -> int:
    return max(1, _BLOCK_ELEMENTS // logits.shape[1])


def _putting(site: Site, visit: Visit) -> Visit:
    """`visit`, with what it gives put in the place of what it saw."""

    def run(state: torch.Tensor) -> torch.Tensor | None:
        new = visit(state)
        return None if new is None else put(site.hook_name, state, new)

    return run
