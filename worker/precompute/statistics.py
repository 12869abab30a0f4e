"""Numbers of each feature over all tokens that count."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from worker.precompute.gather import Merged, Parts
from worker.precompute.settings import BINS


@dataclass(frozen=True)
class Statistics:
    """Of the active values (> 0) of each feature in a range; zeros where there is none."""

    count: Int[torch.Tensor, " features"]
    max: Float[torch.Tensor, " features"]
    mean: Float[torch.Tensor, " features"]
    """Summed in float64."""
    edges: Float[torch.Tensor, "features bins_plus_1"]
    """float32: max * i / bins."""
    histogram: Int[torch.Tensor, "features bins"]
    """Values v with edge i <= v < edge i + 1, the maximum in the last bin; exact, the edges taken
    before they are rounded to float32."""


def statistics(parts: Parts) -> Statistics:
    """The statistics of a range."""
    counts, maxima, totals = zip(*map(_sums, parts), strict=True)
    count, total = torch.stack(counts).sum(0), torch.stack(totals).sum(0)
    largest = torch.stack(maxima).amax(0)
    steps = torch.arange(BINS + 1, dtype=torch.float64) / BINS
    histograms = [_histogram(part.feature, part.value.double(), largest) for part in parts]
    return Statistics(
        count=count,
        max=largest,
        mean=(total / count.clamp(min=1)).float(),
        edges=(largest.double()[:, None] * steps).float(),
        histogram=torch.stack(histograms).sum(0),
    )


def _sums(part: Merged) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count, maximum and sum of each feature."""
    largest, total = (
        torch.segment_reduce(value, how, lengths=part.count, initial=0.0, unsafe=True)
        for value, how in ((part.value, "max"), (part.value.double(), "sum"))
    )
    return part.count, largest, total


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
