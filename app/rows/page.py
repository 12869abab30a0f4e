"""One feature's evidence between the rows of a file and the shelf. Imports nothing of ours."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]
"""One row of a table."""
CREATOR = "clkht01d40000jv08hvalcvly"
"""Neuronpedia's public user, which its own exports put in the place of all authors."""


@dataclass(frozen=True)
class Names:
    """What a source is called."""

    model: str
    sae: str
    hook_name: str = ""


class Window(NamedTuple):
    """One example."""

    band: int
    """Index into `BANDS`."""
    peak: int
    """Position of the maximum."""
    tokens: list[str] | np.ndarray
    """Strings; of rows that are imported, their numbers: int32 [tokens]."""
    values: np.ndarray
    """float32 [tokens]"""


@dataclass(frozen=True)
class Page:
    """All of a feature that both sides know."""

    index: int
    label: str
    """Empty where nobody explained it."""
    density: float
    max_activation: np.float32
    histogram_edges: np.ndarray
    """float32 [bins + 1]"""
    histogram_counts: np.ndarray
    """int64 [bins]"""
    logit_range: np.ndarray
    """float32 [2]"""
    logit_counts: np.ndarray
    """int64 [bins]"""
    top: tuple[list[str], np.ndarray]
    """Tokens and float32 values, most promoted first."""
    bottom: tuple[list[str], np.ndarray]
    """The same, most suppressed first."""
    neighbors: tuple[np.ndarray, np.ndarray]
    """int64 indices, float32 cosines."""
    windows: list[Window]
    """By band."""
