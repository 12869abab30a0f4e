"""A feature's page → its rows, with what an imported feature's source said beyond the page.

Names of model and source are those under which the feature is on the shelf.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import orjson

from app.rows.page import CREATOR, Names, Page, Row

_STRONGEST = -1
_SHARE_OF_BAND = 0.2
"""A band holds a fifth of the active sequences."""


@dataclass(frozen=True)
class Written:
    """Rows to write; arrays are written as lists."""

    neuron: Row
    activations: list[Row]
    explanations: list[Row]


def write(names: Names, page: Page) -> Written:
    """Rows of a page, without what only its source said."""
    of = {"modelId": names.model, "layer": names.sae, "index": str(page.index)}
    return Written(
        _neuron(names, of, page),
        list(_activations(of, page)),
        [_explanation(of, page)] if page.label else [],
    )


def complete(written: Written, kept: dict[str, Any]) -> Written:
    """The rows with what their source said; all that it said where it said more."""
    return Written(
        _with(written.neuron, kept["neuron"]),
        [_with(*pair) for pair in zip(written.activations, kept["activations"], strict=True)],
        [
            _with(written.explanations[i] if i < len(written.explanations) else {}, own)
            for i, own in enumerate(kept["explanations"])
        ],
    )


def dump(value: Any) -> bytes:
    """JSON; numbers of 32 bits with no more digits than they have."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _with(ours: Row, difference: list[Any]) -> Row:
    more, without = difference
    return {name: value for name, value in ours.items() if name not in without} | more


def _neuron(names: Names, of: Row, page: Page) -> Row:
    return {
        **of,
        "sourceSetName": set_name(names.sae),
        "creatorId": CREATOR,
        "hookName": names.hook_name or None,
        "maxActApprox": page.max_activation,
        "frac_nonzero": page.density,
        "freq_hist_data_bar_heights": page.histogram_counts,
        "freq_hist_data_bar_values": _middles(page.histogram_edges),
        "logits_hist_data_bar_heights": page.logit_counts,
        "logits_hist_data_bar_values": _middles(_spread(page.logit_range, len(page.logit_counts))),
        "pos_str": page.top[0],
        "pos_values": page.top[1],
        "neg_str": page.bottom[0],
        "neg_values": page.bottom[1],
        "topkCosSimIndices": page.neighbors[0],
        "topkCosSimValues": page.neighbors[1],
    }


def _activations(of: Row, page: Page) -> Iterator[Row]:
    """Rows of the examples. What each needs of its values is computed for all of them at once."""
    windows = page.windows
    if not windows:
        return
    values = np.concatenate([window.values for window in windows])
    starts = np.cumsum([0] + [len(window.values) for window in windows[:-1]])
    highest, lowest, peaks = _shortest(
        np.maximum.reduceat(values, starts),
        np.minimum.reduceat(values, starts),
        values[starts + np.array([window.peak for window in windows])],
    )
    prefix = f"{of['modelId']}.{of['layer']}.{of['index']}"
    bounds = _bounds([window.band for window in windows], peaks)
    columns = zip(windows, highest, lowest, strict=True)
    for number, (window, high, low) in enumerate(columns):
        yield {
            "id": f"{prefix}.{number}",
            **of,
            "creatorId": CREATOR,
            "tokens": window.tokens,
            "values": window.values,
            "maxValue": high,
            "maxValueTokenIndex": window.peak,
            "minValue": low,
            **bounds[window.band],
        }


def _bounds(bands: list[int], peaks: list[float]) -> dict[int, Row]:
    """What rows of a band say of it, by band; `bands` of the windows do not decrease."""
    found: dict[int, Row] = {}
    first = 0
    for band, some in groupby(bands):
        stop = first + len(list(some))
        maxima = peaks[first:stop]
        found[band] = {
            "binMin": float(_STRONGEST) if band == 0 else min(maxima),
            "binMax": max(maxima),
            "binContains": _STRONGEST if band == 0 else _SHARE_OF_BAND,
        }
        first = stop
    return found


def _shortest(*columns: np.ndarray) -> list[list[float]]:
    """float32 columns as numbers with no more digits than 32 bits hold."""
    return orjson.loads(dump(columns))


def _explanation(of: Row, page: Page) -> Row:
    return {
        "id": f"{of['modelId']}.{of['layer']}.{of['index']}",
        **of,
        "authorId": CREATOR,
        "description": page.label,
        "typeName": None,
        "explanationModelName": None,
    }


def set_name(sae: str) -> str:
    """A source's name without its layer: `res-jb` of `7-res-jb`."""
    layer, dash, name = sae.partition("-")
    return name if dash and name and layer.isdigit() else sae


def _spread(bounds: np.ndarray, bins: int) -> np.ndarray:
    """float32 [bins + 1] edges of bins of equal width."""
    return np.linspace(bounds[0], bounds[1], bins + 1).astype(np.float32)


def _middles(edges: np.ndarray) -> np.ndarray:
    """float32 [bins]"""
    return ((edges[:-1].astype(np.float64) + edges[1:]) / 2).astype(np.float32)
