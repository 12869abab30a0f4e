"""Histograms as the geometry of SVG pictures, which the templates write."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 320, 72
"""Of a picture, in its own units."""


class Bar(NamedTuple):
    """One bin."""

    x: float
    y: float
    width: float
    height: float
    told: str
    """What it says when it is pointed at."""


def bars(edges: Sequence[float], counts: Sequence[int]) -> list[Bar]:
    """Bars whose heights grow with the square root of the counts, so that a few are seen beside
    thousands; empty bins have none."""
    if not counts:
        return []
    most = math.sqrt(max(max(counts), 1))
    width = WIDTH / len(counts)
    found = []
    for place, count in enumerate(counts):
        if not count:
            continue
        height = max(1.0, HEIGHT * math.sqrt(count) / most)
        low, high = float(edges[place]), float(edges[place + 1])
        told = f"{low:.3g} to {high:.3g}: {count:,}"
        x, wide = round(place * width, 1), round(max(width - 0.6, 0.6), 1)
        found.append(Bar(x, round(HEIGHT - height, 1), wide, round(height, 1), told))
    return found
