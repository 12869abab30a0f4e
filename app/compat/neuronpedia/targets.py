"""What a name means to the live worker."""

from app.rows.found import Name
from app.store import vectors
from app.store.engine import Shelf
from app.store.vectors import Vector


def vector_of(shelf: Shelf, name: Name) -> Vector | None:
    """The vector of that name; None where it names a feature. NotFound when there is no such
    vector."""
    return vectors.find(shelf, *name) if vectors.is_source(name.sae) else None
