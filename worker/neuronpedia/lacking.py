"""What of a source's own rows a written page does not say.

`lacking` of a source's rows, given to `render.complete`, makes the source's rows again: by construction,
since it is the difference between them and what is written without it.
"""

from typing import Any

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
    written = orjson.loads(dump(vars(write(names, page))))
    explanations = written["explanations"]
    neuron = {key: value for key, value in rows.neuron.row.items() if key != OTHER}
    return {
        "neuron": _difference(neuron, written["neuron"], whole),
        "other": rows.neuron.row.get(OTHER),
        "activations": [
            _difference(own.row, ours, whole)
            for own, ours in zip(rows.activations, written["activations"], strict=True)
        ],
        "explanations": [
            _difference(own.row, explanations[i] if i < len(explanations) else {}, whole)
            for i, own in enumerate(rows.explanations)
        ],
    }


def _difference(own: Row, ours: Row, whole: bool) -> list[Any]:
    """[columns that differ, names of columns that it has not]"""
    more = {
        name: value
        for name, value in own.items()
        if name not in ours or (ours[name] != value and name not in _OF_NAMES)
    }
    return [more, [name for name in ours if name not in own] if whole else []]
