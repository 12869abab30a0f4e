"""Rows of a feature → its page. Rows are Neuronpedia's: one Neuron, its Activations, its
Explanations.

Bands: an example with `binMin` -1 (or none) is one of the strongest. The others are grouped by the
interval of activations that they stand for. Five groups are q5 to q1 in their order; of fewer or
more, each goes to the fifth of the way to the maximum in which its interval ends.
"""

import math
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np

from app.rows.page import Page, Window
from app.store.feature_rows import SHOWN_NUL
from app.store.imports import MAX_EXAMPLES
from worker.neuronpedia import values
from worker.neuronpedia.values import Refused, Row, at

TOKENS_MAX = 16_384
"""Tokens of an example."""
MAX_CELLS = 2**18
"""Examples of a feature times tokens of the longest: a page holds them as a table."""
NO_TOKENS = np.zeros(0, np.int32)
_FIFTHS = 5


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


def parse(rows: Rows) -> Page:
    """The page; `rows.activations` are put in the order of its windows.

    Raises:
        Invalid: a row is not as it should be, by its place.
    """
    examples = _examples(rows.activations)
    neuron = rows.neuron.row
    with at(rows.neuron.place):
        if len(examples) > MAX_EXAMPLES:
            raise Refused(f"it has {len(examples)} activations; at most {MAX_EXAMPLES} are taken")
        longest = max(map(len, examples), default=0)
        if len(examples) * longest > MAX_CELLS:
            raise Refused(
                f"it has {len(examples)} activations of up to {longest} tokens; at most {MAX_CELLS:,} "
                "values a feature are taken"
            )
        maxima = [float(one.max()) for one in examples]
        largest = values.number(neuron, "maxActApprox")
        if largest is None:
            largest = max(maxima, default=0.0)
        bands = _bands(rows.activations, largest)
        order = sorted(range(len(examples)), key=lambda i: (bands[i], -maxima[i]))
        page = Page(
            index=rows.index,
            label=_label(rows.explanations),
            density=_share(neuron, "frac_nonzero"),
            max_activation=values.single(largest, "maxActApprox"),
            histogram_edges=_edges(neuron, "freq_hist_data_bar"),
            histogram_counts=values.counts(neuron, "freq_hist_data_bar_heights"),
            logit_range=_range(_edges(neuron, "logits_hist_data_bar")),
            logit_counts=values.counts(neuron, "logits_hist_data_bar_heights"),
            top=_weights(neuron, "pos"),
            bottom=_weights(neuron, "neg"),
            neighbors=_neighbors(neuron),
            windows=[
                Window(
                    bands[i],
                    _peak(rows.activations[i].row, examples[i], maxima[i]),
                    rows.activations[i].tokens,
                    examples[i],
                )
                for i in order
            ],
        )
    rows.activations = [rows.activations[i] for i in order]
    return page


def _examples(activations: list[Placed]) -> list[np.ndarray]:
    """Values of each activation: float32 [tokens]. They become numbers all at once, and one by one where
    something is wrong, to say what and where."""
    if not all(map(_fits, activations)):
        return [_example(one) for one in activations]
    lists = [one.row["values"] for one in activations]
    try:
        found = values.singles([*chain.from_iterable(lists)], "values")
    except Refused:
        return [_example(one) for one in activations]
    ends = [*accumulate(map(len, lists))]
    return [found[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _fits(placed: Placed) -> bool:
    """Whether there is a value for each token of an activation."""
    found = placed.row.get("values")
    return type(found) is list and 0 < len(found) == len(placed.tokens) <= TOKENS_MAX


def _example(placed: Placed) -> np.ndarray:
    """Values of an activation whose tokens and values fit: float32 [tokens]."""
    with at(placed.place):
        found = values.floats(placed.row, "values")
        values.equally_many({"tokens": placed.tokens, "values": found})
        if not 0 < len(found) <= TOKENS_MAX:
            raise Refused(f"`tokens` has {len(found)} entries; 1 to {TOKENS_MAX} are taken")
        return found


def _peak(row: Row, found: np.ndarray, largest: float) -> int:
    """`maxValueTokenIndex` says which of equal maxima is meant, where it says one of them."""
    told: Any = row.get("maxValueTokenIndex")
    right = type(told) is int and 0 <= told < len(found) and found[told] == largest
    return told if right else int(found.argmax())


def _bands(activations: list[Placed], largest: float) -> list[int]:
    """Per activation the index into `BANDS`."""
    intervals = [_interval(one) for one in activations]
    ends = sorted({one for one in intervals if one is not None}, reverse=True)
    if len(ends) == _FIFTHS:
        by_end = {end: 1 + place for place, end in enumerate(ends)}
    else:
        by_end = {end: _FIFTHS + 1 - _fifth(end[0], largest) for end in ends}
    return [0 if one is None else by_end[one] for one in intervals]


def _interval(placed: Placed) -> tuple[float, float] | None:
    """The interval that an activation stands for, its end first; None for the strongest."""
    with at(placed.place):
        low, high = values.number(placed.row, "binMin"), values.number(placed.row, "binMax")
    return None if low is None or high is None or low == -1 else (high, low)


def _fifth(end: float, largest: float) -> int:
    """1 to 5"""
    share = end / largest if largest > 0 else 1.0
    return math.ceil(min(max(share, 0.01), 1.0) * _FIFTHS - 1e-6)


def _label(explanations: list[Placed]) -> str:
    """The first explanation as the shelf has it. All are looked at: none may be anything but text."""
    labels = []
    for one in explanations:
        with at(one.place):
            labels.append(values.text(one.row, "description"))
    return labels[0].replace("\0", SHOWN_NUL) if labels else ""


def _share(row: Row, name: str) -> float:
    found = values.number(row, name) or 0.0
    if not 0 <= found <= 1:
        raise Refused(f"`{name}` is {found}; it is a share from 0 to 1")
    return found


def _edges(row: Row, name: str) -> np.ndarray:
    """float32 [bins + 1], halfway between the middles of bins that a row has."""
    middles = values.floats(row, f"{name}_values").astype(np.float64)
    heights = values.counts(row, f"{name}_heights")
    values.equally_many({f"{name}_values": middles, f"{name}_heights": heights})
    if not len(middles):
        return np.zeros(1, np.float32)
    first = middles[1] - middles[0] if len(middles) > 1 else 2 * middles[0]
    last = middles[-1] - middles[-2] if len(middles) > 1 else first
    between = (middles[:-1] + middles[1:]) / 2
    edges = [middles[0] - first / 2, *between, middles[-1] + last / 2]
    return np.array(edges).clip(-3.4e38, 3.4e38).astype(np.float32)


def _range(edges: np.ndarray) -> np.ndarray:
    """float32 [2]"""
    return edges[[0, -1]]


def _weights(row: Row, name: str) -> tuple[list[str], np.ndarray]:
    tokens, found = values.strings(row, f"{name}_str"), values.floats(row, f"{name}_values")
    values.equally_many({f"{name}_str": tokens, f"{name}_values": found})
    return tokens, found


def _neighbors(row: Row) -> tuple[np.ndarray, np.ndarray]:
    names = "topkCosSimIndices", "topkCosSimValues"
    found = values.indices(row, names[0]), values.floats(row, names[1])
    values.equally_many(dict(zip(names, found, strict=True)))
    return found
