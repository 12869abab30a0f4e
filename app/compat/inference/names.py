"""Which model and SAEs a request means. All of it looks into the shelf, so not on the event loop."""

import re
from collections.abc import Iterable

from app.contract.ids import ID_PATTERN, is_neuron_source, neuron_source
from app.errors import BadRequest, NotFound
from app.store import read
from app.store.engine import Shelf
from app.store.records import ModelRecord

_AT_ONCE = 100
_SHOWN = 20
"""Names that an error lists."""
NEURONS = "mlp"
"""The set of all layers' neurons."""


def model_of(shelf: Shelf, name: str | None) -> ModelRecord:
    """The model of a name, or where it is left out the only one.

    Raises:
        NotFound: there is none; the sentence lists those that are there.
        BadRequest: there are several to choose from.
    """
    if name is None:
        return _only(shelf)
    try:
        if not re.fullmatch(ID_PATTERN, name):
            raise NotFound(name)
        return read.model(shelf, name)
    except NotFound:
        there = _listed(one.id for one in models(shelf))
        raise NotFound(f"There is no model {name[:128]!r} here; there are: {there}.") from None


def models(shelf: Shelf) -> list[ModelRecord]:
    """Those that are listed first."""
    return list(read.models(shelf, _AT_ONCE).items)


def _only(shelf: Shelf) -> ModelRecord:
    there = models(shelf)
    if len(there) != 1:
        names = _listed(one.id for one in there)
        raise BadRequest(f"Name the model in `model`; there are: {names}.")
    return there[0]


def sets_of(shelf: Shelf, model: ModelRecord) -> dict[str, list[str]]:
    """The SAEs of a model by set, those of a set by layer; `mlp` is the neurons of all layers."""
    found: dict[str, list[tuple[int, str]]] = {}
    cursor = None
    while True:
        page = read.saes(shelf, model.id, _AT_ONCE, cursor)
        for sae in page.items:
            layer, dash, name = sae.id.partition("-")
            if dash and layer.isdecimal() and sae.path and not is_neuron_source(sae.id):
                found.setdefault(name, []).append((int(layer), sae.id))
        if (cursor := page.next_cursor) is None:
            break
    sets = {name: [one for _, one in sorted(own)] for name, own in sorted(found.items())}
    layers = [
        layer
        for layer in range(model.n_layers)
        if f"blocks.{layer}.mlp.hook_post" in model.hook_points
    ]
    return sets | ({NEURONS: [neuron_source(layer) for layer in layers]} if layers else {})


def sources_of(shelf: Shelf, model: ModelRecord, source_set: str, selected: list[str]) -> list[str]:
    """The selected SAEs, or all of the set. BadRequest where there is no such set."""
    sets = sets_of(shelf, model)
    if source_set not in sets:
        raise BadRequest(
            f"Invalid source set: {source_set[:128]!r}; {model.id} has: {_listed(sets)}."
        )
    return list(dict.fromkeys(selected)) or sets[source_set]


def _listed(names: Iterable[str]) -> str:
    """In a sentence."""
    several = list(names)
    more = [f"and {len(several) - _SHOWN} more"] if len(several) > _SHOWN else []
    return ", ".join([*several[:_SHOWN], *more]) or "none"
