"""What of a source's own rows a written page does not say.

`lacking` of a source's rows, given to `render.complete`, makes the source's rows again: by construction,
since it is the difference between them and what is written without it.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from app.rows.page import Names, Page, Row
from app.rows.render import dump, write
from worker.neuronpedia.active import Active
from worker.neuronpedia.dashboards import OTHER
from worker.neuronpedia.parse import Placed, Rows

_OF_NAMES = ("modelId", "layer")


def lacking(names: Names, page: Page, rows: Rows, active: Active, whole: bool) -> dict[str, Any]:
    """What a source's rows say that written ones do not, JSON. `rows` are in the order of the
    page, `active` are its values.

    With `whole`, also what they do not say: columns that would be written are not.
    """
    written = write(names, page)
    for row in written.activations:
        # Tokens are those of the source, and values are compared all at once.
        del row["tokens"], row["values"]
    neuron, activations, explanations = _plain(
        [written.neuron, written.activations, written.explanations]
    )
    own_neuron = {key: value for key, value in rows.neuron.row.items() if key != OTHER}
    same = _same_values(rows.activations, active)
    for own, ours, is_same in zip(rows.activations, activations, same, strict=True):
        if is_same:
            ours["values"] = own.row["values"]
    return {
        "neuron": _difference(own_neuron, neuron, whole),
        "other": rows.neuron.row.get(OTHER),
        "activations": [
            _difference(own.row, ours, whole)
            for own, ours in zip(rows.activations, activations, strict=True)
        ],
        "explanations": [
            _difference(own.row, explanations[i] if i < len(explanations) else {}, whole)
            for i, own in enumerate(rows.explanations)
        ],
    }


def _same_values(activations: list[Placed], active: Active) -> Iterator[bool]:
    """Per activation whether the values that are written are its own."""
    starts, positions = active.starts.tolist(), active.positions.tolist()
    written: list[float] = _plain(active.values)
    for one, start, end in zip(activations, starts[:-1], starts[1:], strict=True):
        own, places = one.row["values"], positions[start:end]
        equally_many = len(own) - own.count(0) == len(places)
        yield equally_many and [own[at] for at in places] == written[start:end]


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
