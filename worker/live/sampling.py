"""The next token of every row: greedy, or drawn by temperature, top-k and top-p.

Per row: (1) take from the logit of a token that was drawn c times before
`presence_penalty` + c x `frequency_penalty`, for greedy rows too; (2) divide logits by the
temperature; (3) keep the `top_k` most probable tokens; (4) of these keep the fewest whose
renormalised probability reaches `top_p`; (5) take one uniform number from the row's own generator
and invert the cumulative distribution in token-id order.
In that order rounding noise cannot swap near-equal tokens, as it would in sorted order, so a seed
gives the same text alone and in a crowd. Steps 3 and 4 look at the `SHORTLIST` largest logits and
sort the whole vocabulary only where that does not suffice.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

SHORTLIST = 1024


@dataclass
class Sampling:
    """How one row draws. Temperature 0 is greedy and draws nothing."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    generator: random.Random = field(init=False, repr=False)
    """One uniform a token, the same stream on every device and in every batch."""
    drawn: Counter[int] = field(init=False, repr=False, default_factory=Counter)
    """How often each token was drawn, where that is penalised."""

    def __post_init__(self) -> None:
        self.generator = random.Random(self.seed)

    def note(self, token: int) -> None:
        """Remember a token that was drawn."""
        if self.presence_penalty or self.frequency_penalty:
            self.drawn[token] += 1

    def penalties(self) -> Float[np.ndarray, " drawn"]:
        """What is taken from the logit of each token that was drawn, in their order."""
        times = np.fromiter(self.drawn.values(), np.float32)
        return np.float32(self.presence_penalty) + times * np.float32(self.frequency_penalty)


def next_tokens(logits: Float[torch.Tensor, "n v"], rows: list[Sampling]) -> Int[torch.Tensor, "n"]:
    """One token id a row. The logits stay as they are."""
    logits = _penalised(logits, rows)
    tokens = logits.argmax(-1)
    full = [i for i, row in enumerate(rows) if row.temperature > 0 and not _truncates(row)]
    cut = [i for i, row in enumerate(rows) if row.temperature > 0 and _truncates(row)]
    if full:
        chosen = [rows[i] for i in full]
        tokens[full] = _invert(_tempered(logits[full], chosen).softmax(-1), chosen)
    if cut:
        tokens[cut] = _draw_truncated(logits[cut], [rows[i] for i in cut])
    return tokens


def _penalised(
    logits: Float[torch.Tensor, "n v"], rows: list[Sampling]
) -> Float[torch.Tensor, "n v"]:
    """Logits less the penalties, each token of a row once."""
    penalised = [(place, row) for place, row in enumerate(rows) if row.drawn]
    if not penalised:
        return logits
    place = np.repeat([place for place, _ in penalised], [len(row.drawn) for _, row in penalised])
    token = np.concatenate([np.fromiter(row.drawn, np.int64) for _, row in penalised])
    taken = np.concatenate([row.penalties() for _, row in penalised])
    at, values = torch.from_numpy(np.stack([place, token])), torch.from_numpy(taken)
    logits = logits.clone()
    row, column = at.to(logits.device)
    logits[row, column] -= values.to(logits.device, logits.dtype)
    return logits


def _truncates(row: Sampling) -> bool:
    return row.top_p < 1 or row.top_k is not None


def _tempered(
    logits: Float[torch.Tensor, "n v"], rows: list[Sampling]
) -> Float[torch.Tensor, "n v"]:
    # Shifted first, a tiny temperature cannot push the largest logit to infinity.
    shifted = logits - logits.max(-1, keepdim=True).values
    temperature = _column([max(row.temperature, 1e-6) for row in rows], logits.device)
    return shifted / temperature.to(logits.dtype)


def _draw_truncated(
    logits: Float[torch.Tensor, "n v"], rows: list[Sampling]
) -> Int[torch.Tensor, "n"]:
    vocabulary = logits.shape[-1]
    scaled = _tempered(logits, rows)
    total = scaled.logsumexp(-1, keepdim=True).to(_precise(logits.device))
    size = min(vocabulary, SHORTLIST)
    values, ids = scaled.topk(size)
    if size < vocabulary and _short(values, total, rows):
        values, ids = scaled.sort(dim=-1, descending=True, stable=True)
    weights = _truncated(values.to(total.dtype), total, rows)
    ids, order = ids.sort(-1)
    picked = _invert(weights.gather(-1, order), rows)
    return ids.gather(-1, picked[:, None])[:, 0]


def _short(values: torch.Tensor, total: torch.Tensor, rows: list[Sampling]) -> bool:
    """Whether some row may keep more tokens than are in its list."""
    covered = (values.logsumexp(-1, keepdim=True) - total).exp()[:, 0].tolist()
    size = values.shape[-1]
    return any(
        row.top_k > size if row.top_k is not None else mass < row.top_p
        for row, mass in zip(rows, covered, strict=True)
    )


def _truncated(
    values: Float[torch.Tensor, "n k"], total: Float[torch.Tensor, "n 1"], rows: list[Sampling]
) -> Float[torch.Tensor, "n k"]:
    """Weights of tokens in falling order, 0 for those that top-k and top-p leave out."""
    size = values.shape[-1]
    top_k = _column([min(row.top_k or size, size) for row in rows], values.device)
    rank = torch.arange(size, device=values.device)[None]
    weights = (values - total).exp().masked_fill(rank >= top_k, 0)
    limited = _column([row.top_k is not None for row in rows], values.device) > 0
    mass = torch.where(limited, weights.sum(-1, keepdim=True), torch.ones_like(total))
    before = (weights.cumsum(-1) - weights) / mass
    top_p = _column([row.top_p for row in rows], values.device)
    return weights.masked_fill((before >= top_p) & (rank > 0), 0)


def _invert(weights: Float[torch.Tensor, "n k"], rows: list[Sampling]) -> Int[torch.Tensor, "n"]:
    """Inverse of the cumulative distribution at one uniform number a row."""
    cumulative = weights.cumsum(-1, dtype=_precise(weights.device))
    uniform = _column([row.generator.random() for row in rows], weights.device)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp_(max=weights.shape[-1] - 1)[:, 0]


def _column(values: list, device: torch.device) -> Float[torch.Tensor, "n 1"]:
    return torch.tensor(values, dtype=_precise(device), device=device)[:, None]


def _precise(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
