"""What of a source's own rows a written page does not say.

`lacking` of a source's rows, given to `render.complete`, makes the source's rows again: by construction,
since it is the difference between them and what is written without it.
"""

from collections.abc import Iterator
from itertools import filterfalse, pairwise
from typing import Any

import orjson

from app.rows.page import Names, Page, Row
from app.rows.render import dump, write
from worker.neuronpedia.active import Active
from worker.neuronpedia.dashboards import OTHER
from worker.neuronpedia.rows import Placed, Rows

_OF_NAMES = ("modelId", "layer")


def lacking(names: Names, page: Page, rows: Rows, active: Active, whole: bool) -> dict[str, Any]:
    """What a source's rows say that written ones do not, JSON. `rows` are in the order of the
    page, `active` are its values.

    With `whole`, also what they do not say: columns that would be written are not.
    """
    written = write(names, page)
    same = _same_values(rows.activations, active)
    for own, ours, is_same in zip(rows.activations, written.activations, same, strict=True):
        del ours["tokens"]  # the source's own
        if is_same:
            ours["values"] = own.row["values"]
        else:
            del ours["values"]
    neuron, explanations = orjson.loads(dump([written.neuron, written.explanations]))
    own_neuron = {key: value for key, value in rows.neuron.row.items() if key != OTHER}
    return {
        "neuron": _difference(own_neuron, neuron, whole),
        "other": rows.neuron.row.get(OTHER),
        "activations": [
            _difference(own.row, ours, whole)
            for own, ours in zip(rows.activations, written.activations, strict=True)
        ],
        "explanations": [
            _difference(own.row, explanations[i] if i < len(explanations) else {}, whole)
            for i, own in enumerate(rows.explanations)
        ],
    }


def _same_values(activations: list[Placed], active: Active) -> Iterator[bool]:
    """Per activation whether the values that are written are its own."""
    written: list[float] = orjson.loads(dump(active.values))
    for one, (start, end) in zip(activations, pairwise(active.starts.tolist()), strict=True):
        # What is not 0 as it is written is not 0 here: as many numbers are at the same places.
        yield [*filter(None, one.row["values"])] == written[start:end]


def _difference(own: Row, ours: Row, whole: bool) -> list[Any]:
    """[columns that differ, names of columns that it has not]"""
    more = {
        name: value
        for name, value in own.items()
        if name not in ours or (ours[name] != value and name not in _OF_NAMES)
    }
    return [more, [*filterfalse(own.__contains__, ours)] if whole else []]
