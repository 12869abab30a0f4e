"""Log probabilities of drawn tokens and of the most probable ones, for rows that ask for them.

They are those of the model as it is steered, at temperature 1: before temperature, penalties, top-k
and top-p, which say how a token is drawn and not how probable the model finds it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

LEAST = -9999.0
"""Said of what is less probable still: JSON has no infinity."""


@dataclass(frozen=True)
class Logprob:
    """Of one drawn token."""

    value: float
    top: list[tuple[int, float]]
    """(Token id, log probability) of the most probable tokens, most probable first."""


def logprobs_of(
    logits: Float[torch.Tensor, "n v"], tokens: Int[torch.Tensor, "n"], tops: list[int | None]
) -> list[Logprob | None]:
    """What each row drew; `tops` has how many of the most probable tokens it wants beside, None for
    a row that wants nothing."""
    asking = [row for row, top in enumerate(tops) if top is not None]
    found: list[Logprob | None] = [None] * len(tops)
    if not asking:
        return found
    logprobs = logits[asking].float().log_softmax(-1).clamp(min=LEAST)
    own = logprobs.gather(1, tokens[asking][:, None])[:, 0].tolist()
    most = min(max(tops[row] or 0 for row in asking), logits.shape[-1])
    values, ids = (part.tolist() for part in logprobs.topk(most))
    for place, row in enumerate(asking):
        best = list(zip(ids[place], values[place], strict=True))
        found[row] = Logprob(own[place], best[: tops[row]])
    return found
