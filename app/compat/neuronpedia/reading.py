"""Features and vectors by their names, as rows. All of it may wait for the database."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from app.api.state import Services
from app.compat.neuronpedia.neurons import neuron_row, row_of_vector
from app.rows.found import Name
from app.rows.page import Row
from app.store import read, vectors
from app.store.engine import Shelf


class Wanted(NamedTuple):
    """What to read."""

    name: Name
    most: int | None = None
    """Activations, the strongest; None for all."""


def rows_of(services: Services, wanted: Sequence[Wanted]) -> Iterator[Row | None]:
    """A row for each name in order; None where there is no such feature."""
    named = [one.name for one in wanted if vectors.is_source(one.name.sae)]
    kept = {(v.model_id, v.source, v.number): v for v in vectors.found(services.shelf, named)}
    for name, most in wanted:
        if name in kept:
            yield row_of_vector(kept[name])
        else:
            found = services.finder.now(name)
            yield found and neuron_row(found, most)


def refuse_unknown(shelf: Shelf, names: Iterable[Name]) -> None:
    """Raise NotFound for a feature or vector that does not exist."""
    by_source: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for model, sae, index in names:
        by_source[model, sae].append(index)
    for (model, sae), indices in by_source.items():
        if vectors.is_source(sae):
            some = vectors.found(shelf, [(model, sae, index) for index in indices])
            indices = set(indices) - {vector.number for vector in some}
        if indices:
            read.max_activations(shelf, model, sae, list(indices))
