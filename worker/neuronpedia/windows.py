"""Activations of a feature → its windows, by band.

A feature has many activations, so what is the same for all is done for all at once; one by one only
where something is wrong, to say what and where.

Bands: an example with `binMin` -1 (or none) is one of the strongest. The others are grouped by the
interval of activations that they stand for. Five groups are q5 to q1 in their order; of fewer or
more, each goes to the fifth of the way to the maximum in which its interval ends.
"""

import math
from itertools import accumulate, chain, pairwise
from types import NoneType
from typing import Any

import numpy as np

from app.rows.page import Window
from app.store.imports import MAX_EXAMPLES
from worker.neuronpedia import values
from worker.neuronpedia.rows import Placed
from worker.neuronpedia.values import Refused, Row, at

TOKENS_MAX = 16_384
"""Tokens of an example."""
MAX_CELLS = 2**18
"""Examples of a feature times tokens of the longest: a page holds them as a table."""
_FIFTHS = 5


def examples_of(activations: list[Placed]) -> list[np.ndarray]:
    """Values of each activation, as many as it has tokens: float32 [tokens].

    Raises:
        Invalid: one is not as it should be, by its place.
    """
    if not all(map(_fits, activations)):
        return [_example(one) for one in activations]
    lists = [one.row["values"] for one in activations]
    try:
        flat = values.singles([*chain.from_iterable(lists)], "values")
    except Refused:
        return [_example(one) for one in activations]
    bounds = accumulate(map(len, lists), initial=0)
    return [flat[start:end] for start, end in pairwise(bounds)]


def refuse_large(examples: list[np.ndarray]) -> None:
    """Raises Refused when a feature has more values than are taken."""
    if len(examples) > MAX_EXAMPLES:
        raise Refused(f"it has {len(examples)} activations; at most {MAX_EXAMPLES} are taken")
    longest = max(map(len, examples), default=0)
    if len(examples) * longest > MAX_CELLS:
        raise Refused(
            f"it has {len(examples)} activations of up to {longest} tokens; at most {MAX_CELLS:,} "
            "values a feature are taken"
        )


def maxima_of(examples: list[np.ndarray]) -> list[float]:
    """The largest value of each."""
    if not examples:
        return []
    starts = [*accumulate(map(len, examples[:-1]), initial=0)]
    return np.maximum.reduceat(np.concatenate(examples), starts).tolist()


def windows_of(
    activations: list[Placed], examples: list[np.ndarray], maxima: list[float], largest: float
) -> tuple[list[int], list[Window]]:
    """Activations in the order of their windows, as places in the list, and the windows: by band, the
    strongest first. `largest` is the feature's maximum.

    Raises:
        Invalid: an interval is no pair of numbers, by its place.
    """
    bands = _bands(activations, largest)
    order = sorted(range(len(examples)), key=lambda i: (bands[i], -maxima[i]))
    return order, [
        Window(
            bands[i],
            _peak(activations[i].row, examples[i], maxima[i]),
            activations[i].tokens,
            examples[i],
        )
        for i in order
    ]


def _fits(placed: Placed) -> bool:
    """Whether an activation has a value for each token."""
    found = placed.row.get("values")
    return type(found) is list and 0 < len(found) == len(placed.tokens) <= TOKENS_MAX


def _example(placed: Placed) -> np.ndarray:
    """Values of one activation."""
    with at(placed.place):
        found = values.floats(placed.row, "values")
        values.equally_many({"tokens": placed.tokens, "values": found})
        if not 0 < len(found) <= TOKENS_MAX:
            raise Refused(f"`tokens` has {len(found)} entries; 1 to {TOKENS_MAX} are taken")
        return found


def _peak(row: Row, found: np.ndarray, largest: float) -> int:
    """`maxValueTokenIndex` says which of equal maxima is meant, where it says one of them."""
    told: Any = row.get("maxValueTokenIndex")
    right = type(told) is int and 0 <= told < len(found) and found.item(told) == largest
    return told if right else int(found.argmax())


def _bands(activations: list[Placed], largest: float) -> list[int]:
    """Per activation the index into `BANDS`."""
    intervals = _intervals(activations)
    ends = sorted({one for one in intervals if one is not None}, reverse=True)
    if len(ends) == _FIFTHS:
        by_end = {end: 1 + place for place, end in enumerate(ends)}
    else:
        by_end = {end: _FIFTHS + 1 - _fifth(end[0], largest) for end in ends}
    return [0 if one is None else by_end[one] for one in intervals]


def _intervals(activations: list[Placed]) -> list[tuple[float, float] | None]:
    """The interval that each activation stands for, its end first; None for the strongest."""
    pairs = [(one.row.get("binMin"), one.row.get("binMax")) for one in activations]
    if not set(map(type, chain.from_iterable(pairs))) <= {int, float, NoneType}:
        for one in activations:
            with at(one.place):
                values.number(one.row, "binMin")
                values.number(one.row, "binMax")
    return [
        None if low is None or high is None or low == -1 else (float(high), float(low))
        for low, high in pairs
    ]


def _fifth(end: float, largest: float) -> int:
    """1 to 5"""
    share = end / largest if largest > 0 else 1.0
    return math.ceil(min(max(share, 0.01), 1.0) * _FIFTHS - 1e-6)
