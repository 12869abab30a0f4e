"""Rows of a feature → its page. Rows are Neuronpedia's: one Neuron, its Activations, its
Explanations."""

import numpy as np

from app.rows.page import Page
from app.store.feature_rows import SHOWN_NUL
from worker.neuronpedia import values
from worker.neuronpedia.rows import Placed, Rows
from worker.neuronpedia.values import Refused, Row, at
from worker.neuronpedia.windows import examples_of, maxima_of, refuse_large, windows_of


def parse(rows: Rows) -> Page:
    """The page; `rows.activations` are put in the order of its windows.

    Raises:
        Invalid: a row is not as it should be, by its place.
    """
    examples = examples_of(rows.activations)
    neuron = rows.neuron.row
    with at(rows.neuron.place):
        refuse_large(examples)
        maxima = maxima_of(examples)
        largest = values.number(neuron, "maxActApprox")
        if largest is None:
            largest = max(maxima, default=0.0)
        order, windows = windows_of(rows.activations, examples, maxima, largest)
        label, density = _label(rows.explanations), _share(neuron, "frac_nonzero")
        max_activation = values.single(largest, "maxActApprox")
        edges, counts = _histogram(neuron, "freq_hist_data_bar")
        logit_edges, logit_counts = _histogram(neuron, "logits_hist_data_bar")
        page = Page(
            index=rows.index,
            label=label,
            density=density,
            max_activation=max_activation,
            histogram_edges=edges,
            histogram_counts=counts,
            logit_range=logit_edges[[0, -1]],
            logit_counts=logit_counts,
            top=_weights(neuron, "pos"),
            bottom=_weights(neuron, "neg"),
            neighbors=_neighbors(neuron),
            windows=windows,
        )
    rows.activations = [rows.activations[i] for i in order]
    return page


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


def _histogram(row: Row, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins, float32 [bins + 1], and what they count, int64 [bins]."""
    middles = values.floats(row, f"{name}_values").astype(np.float64)
    heights = values.counts(row, f"{name}_heights")
    values.equally_many({f"{name}_values": middles, f"{name}_heights": heights})
    return _edges(middles), heights


def _edges(middles: np.ndarray) -> np.ndarray:
    """float32 [bins + 1], halfway between the middles of bins that a row has."""
    if not len(middles):
        return np.zeros(1, np.float32)
    first = middles[1] - middles[0] if len(middles) > 1 else 2 * middles[0]
    last = middles[-1] - middles[-2] if len(middles) > 1 else first
    between = (middles[:-1] + middles[1:]) / 2
    edges = [middles[0] - first / 2, *between, middles[-1] + last / 2]
    return np.array(edges).clip(-3.4e38, 3.4e38).astype(np.float32)


def _weights(row: Row, name: str) -> tuple[list[str], np.ndarray]:
    tokens, found = values.strings(row, f"{name}_str"), values.floats(row, f"{name}_values")
    values.equally_many({f"{name}_str": tokens, f"{name}_values": found})
    return tokens, found


def _neighbors(row: Row) -> tuple[np.ndarray, np.ndarray]:
    names = "topkCosSimIndices", "topkCosSimValues"
    found = values.indices(row, names[0]), values.floats(row, names[1])
    values.equally_many(dict(zip(names, found, strict=True)))
    return found
