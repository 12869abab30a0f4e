"""Numbers of each feature over all tokens that count."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from worker.precompute.gather import Merged
from worker.precompute.settings import BINS


@dataclass(frozen=True)
class Statistics:
    """Of the active values (> 0) of each feature in a range; zeros where there is none."""

    max: Float[torch.Tensor, " features"]
    mean: Float[torch.Tensor, " features"]
    """Summed in float64."""
    edges: Float[torch.Tensor, "features bins_plus_1"]
    """float32: max * i / bins."""
    histogram: Int[torch.Tensor, "features bins"]
    """Values v with edge i <= v < edge i + 1, the maximum in the last bin; exact, the edges taken
    before they are rounded to float32."""


def statistics(entries: Merged) -> Statistics:
    """The statistics of a range."""
    value = entries.value.double()
    largest = torch.segment_reduce(
        entries.value, "max", lengths=entries.count, initial=0.0, unsafe=True
    )
    total = torch.segment_reduce(value, "sum", lengths=entries.count, initial=0.0, unsafe=True)
    steps = torch.arange(BINS + 1, dtype=torch.float64) / BINS
    return Statistics(
        max=largest,
        mean=(total / entries.count.clamp(min=1)).float(),
        edges=(largest.double()[:, None] * steps).float(),
        histogram=_histogram(entries.feature, value, largest),
    )


def _histogram(
    feature: Int[torch.Tensor, " entries"],
    value: Float[torch.Tensor, " entries"],
    largest: Float[torch.Tensor, " features"],
) -> Int[torch.Tensor, "features bins"]:
    """Bin floor(bins v / max). Values are float32, so in float64 the quotient is never rounded up
    to the next whole number: it differs from one by 2^-30 of it or not at all."""
    own = largest.double().index_select(0, feature)
    bin_of = (value * BINS).div_(own).int().clamp_(max=BINS - 1)
    cell = bin_of.add_(feature, alpha=BINS)
    return torch.bincount(cell, minlength=len(largest) * BINS).reshape(-1, BINS)
