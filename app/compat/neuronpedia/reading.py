"""Features and vectors by their names, as rows. All of it may wait for the database."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.api.state import Services
from app.compat.neuronpedia.neurons import neuron_row, row_of_vector
from app.rows.found import Name
from app.rows.page import Row
from app.store import vectors


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
