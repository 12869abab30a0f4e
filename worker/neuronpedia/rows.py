"""Rows of one feature, as they come out of the spool."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from worker.neuronpedia.values import Row

NO_TOKENS = np.zeros(0, np.int32)


class Placed(NamedTuple):
    """A row and where it stands."""

    place: str
    row: Row
    tokens: np.ndarray = NO_TOKENS
    """int32 [tokens]: numbers of an activation's token strings, which its row is without."""


@dataclass
class Rows:
    """All rows of one feature."""

    index: int
    neuron: Placed
    activations: list[Placed] = field(default_factory=list)
    explanations: list[Placed] = field(default_factory=list)
