"""An SAE's features by density and strongest activation, counted in cells: a picture that is as large
for a million features as for a thousand.

Both axes are logarithmic, as both spread over several powers of ten.
"""

from typing import NamedTuple

import numpy as np

from app.store.activity import Activity

COLUMNS, ROWS = 48, 24


class Cell(NamedTuple):
    """Features in one cell, which has no others."""

    column: int
    row: int
    """From the top."""
    features: int
    shade: int
    """1 to 20, by the logarithm of the count."""
    density: tuple[float, float]
    max_activation: tuple[float, float]


class Cloud(NamedTuple):
    """All features that ever fired."""

    cells: list[Cell]
    density: tuple[float, float]
    max_activation: tuple[float, float]
    dead: int
    """Features that never fired, which are in no cell."""


def cloud(activity: Activity) -> Cloud | None:
    """None when no feature ever fired. Those that were imported without their density are in no cell."""
    fired = (activity.max_activation > 0) & (activity.density > 0)
    if not fired.any():
        return None
    across = _edges(activity.density[fired], COLUMNS)
    up = _edges(activity.max_activation[fired], ROWS)
    counts, _, _ = np.histogram2d(
        activity.density[fired], activity.max_activation[fired], [across, up]
    )
    most = np.log1p(counts.max())
    cells = [
        Cell(
            int(column),
            ROWS - 1 - int(row),
            int(counts[column, row]),
            max(1, round(20 * np.log1p(counts[column, row]) / most)),
            (float(across[column]), float(across[column + 1])),
            (float(up[row]), float(up[row + 1])),
        )
        for column, row in np.argwhere(counts)
    ]
    dead = int((activity.max_activation <= 0).sum())
    return Cloud(cells, _ends(across), _ends(up), dead)


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """float64 [bins + 1], evenly spaced on a log scale around all values."""
    low, high = values.min() * 0.999, values.max() * 1.001
    # In few digits, as people find them in the fields of the table.
    return np.array([float(f"{edge:.5g}") for edge in np.geomspace(low, high, bins + 1)])


def _ends(edges: np.ndarray) -> tuple[float, float]:
    return float(edges[0]), float(edges[-1])
