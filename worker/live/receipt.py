"""A receipt: what steering did to a text, token by token.

The finished text, prompt and answer, goes through the model once more, in pieces, as two rows: one
steered as it was, one not. With p the distributions of the next token in the two, at temperature 1:

    kl          KL(p steered || p unsteered) where each token of the answer was drawn, in nats
    perplexity  exp(mean of -log p) over the tokens of the answer, in either

    at each steered site, per token: |h| in front of its entries and behind them, and the angle
    between the two, in degrees, 90 where one of them is 0; of each steered feature its activation
    in front and behind

A transcoder's feature is read where the transcoder reads; steering its output changes nothing there.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class SiteReceipt:
    """Of one steered site, by token."""

    norm_before: list[float] = field(default_factory=list)
    norm_after: list[float] = field(default_factory=list)
    angle: list[float] = field(default_factory=list)


@dataclass
class FeatureReceipt:
    """Of one entry's feature, by token."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


@dataclass
class Receipt:
    """What `worker.live.receipt` says of one answer."""

    kl: list[float] = field(default_factory=list)
    steered: list[float] = field(default_factory=list)
    """Log probability of each token of the answer."""
    unsteered: list[float] = field(default_factory=list)
    sites: dict[str, SiteReceipt] = field(default_factory=lambda: defaultdict(SiteReceipt))
    """By hook point."""
    features: dict[int, FeatureReceipt] = field(default_factory=lambda: defaultdict(FeatureReceipt))
    """By place of the entry."""

    @property
    def perplexity(self) -> tuple[float, float]:
        """Of the answer under the steered and under the unsteered model."""
        return _perplexity(self.steered), _perplexity(self.unsteered)

    @property
    def is_finite(self) -> bool:
        """Whether all of it are numbers. A text can be finite where this is not: no token was drawn
        behind its last one, and a norm may bring back to size what an activation multiplies."""
        parts = (*self.sites.values(), *self.features.values())
        lists = (
            self.kl,
            self.steered,
            self.unsteered,
            *(x for one in parts for x in vars(one).values()),
        )
        return all(math.isfinite(sum(one)) for one in lists)


def _perplexity(logprobs: list[float]) -> float:
    # Beyond the largest number that a float holds it is as good as infinite.
    return math.exp(min(-sum(logprobs) / len(logprobs), 700.0))
