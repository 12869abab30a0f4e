"""What a neuron is made of, as it goes onto the shelf and comes back; `worker.split` has the formulas."""

from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """What one feature adds to a neuron."""

    feature: int
    share: float
    """Of the neuron's activation, summed over the peaks of its examples."""
    weight: float
    """The neuron's entry of the feature's decoder row: what one unit of activation adds."""


class Explained(NamedTuple):
    """One of the neuron's examples."""

    window: int
    """Its place among the neuron's stored windows."""
    contribution: float
    """What the feature of the example's group adds at the peak."""


class Group(NamedTuple):
    """The examples at whose peaks one feature adds the most."""

    part: Part | None
    """None where no feature adds anything."""
    examples: list[Explained]
    """In the order of the windows."""


@dataclass(frozen=True)
class NeuronSplit:
    """What one neuron is made of. The shares of `features`, `others`, `bias` and `rest` add up to 1
    for a neuron that has examples."""

    neuron: int
    polysemanticity: float
    """Effective number of the features with positive shares; 0 without any."""
    features: list[Part]
    """Those with the largest shares by magnitude, from the most positive to the most negative."""
    others: float
    """Share of all other features together."""
    n_others: int
    """How many of them are active at the peaks."""
    bias: float
    rest: float
    """Share that the SAE leaves unexplained."""
    unexplained_variance: float | None
    """Variance of the rest over that of the neuron, at the peaks; None where it does not vary."""
    groups: list[Group]
    """Those with the most examples first."""
