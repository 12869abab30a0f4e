"""What of a source's own rows a written page does not say.

`lacking` of a source's rows, given to `render.complete`, makes the source's rows again: by construction,
since it is the difference between them and what is written without it.
"""

from typing import Any

import numpy as np
import orjson

from app.rows.page import Names, Page, Row
from app.rows.render import dump, write
from worker.neuronpedia.dashboards import OTHER
from worker.neuronpedia.parse import Rows

_OF_NAMES = ("modelId", "layer")


def lacking(names: Names, page: Page, rows: Rows, whole: bool) -> dict[str, Any]:
    """What a source's rows say that written ones do not, JSON. `rows` are in the order of the page.

    With `whole`, also what they do not say: columns that would be written are not.
    """
    written = write(names, page)
    neuron, explanations = _plain([written.neuron, written.explanations])
    own_neuron = {key: value for key, value in rows.neuron.row.items() if key != OTHER}
    return {
        "neuron": _difference(own_neuron, neuron, whole),
        "other": rows.neuron.row.get(OTHER),
        "activations": [
            _difference(own.row, ours, whole)
            for own, ours in zip(
                rows.activations, _activations(rows, page, written.activations), strict=True
            )
        ],
        "explanations": [
            _difference(own.row, explanations[i] if i < len(explanations) else {}, whole)
            for i, own in enumerate(rows.explanations)
        ],
    }


def _activations(rows: Rows, page: Page, written: list[Row]) -> list[Row]:
    """Written rows as plain JSON. Their tokens are those of the source's rows, and most values too, so
    they are not written out to be read again."""
    short = _plain([{**row, "tokens": [], "values": []} for row in written])
    columns = zip(rows.activations, page.windows, short, strict=True)
    return [
        {**row, "tokens": window.tokens, "values": _values(own.row["values"], window.values)}
        for own, window, row in columns
    ]


def _values(own: list[float], ours: np.ndarray) -> list[float]:
    """Written values; `own` themselves where every number is the same."""
    active = np.flatnonzero(ours)
    places = active.tolist()
    same = np.flatnonzero(own).tolist() == places and _plain(ours[active]) == [
        own[i] for i in places
    ]
    return own if same else _plain(ours)


def _plain(value: Any) -> Any:
    return orjson.loads(dump(value))


def _difference(own: Row, ours: Row, whole: bool) -> list[Any]:
    """[columns that differ, names of columns that it has not]"""
    more = {
        name: value
        for name, value in own.items()
        if name not in ours or (ours[name] != value and name not in _OF_NAMES)
    }
    return [more, [name for name in ours if name not in own] if whole else []]
