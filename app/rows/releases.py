"""Which SAEs a release publishes."""

from sqlalchemy import select

from app.errors import NotFound
from app.rows.about import release_name
from app.store import tables as t
from app.store.engine import Shelf
from app.store.labels import Served
from app.store.records import IMPORTED

_TOLD = t.saes.c.provenance[("imported", "about", "release", 0, "name")].as_string()
_SOURCE = t.saes.c.provenance["source"].as_string()


def of_release(shelf: Shelf, name: str) -> list[Served]:
    """The SAEs of a release that have evidence, over all models. NotFound when there is none."""
    c = t.saes.c
    query = select(c.model_id, c.id, c.run, c.architecture, _TOLD, _SOURCE)
    query = query.where(c.run.is_not(None)).order_by(c.model_id, c.layer, c.id)
    with shelf.read() as connection:
        rows = connection.execute(query).all()
    found = [
        Served(model_id, sae_id, run)
        for model_id, sae_id, run, architecture, told, source in rows
        if release_name(sae_id, told if architecture == IMPORTED else None, source) == name
    ]
    if not found:
        raise NotFound(
            f"There is no release '{name}' with evidence here; a release is what `release.jsonl` of an "
            "import calls it, or a release of SAELens' directory, or else the set of an SAE."
        )
    return found
