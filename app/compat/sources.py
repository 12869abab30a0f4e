"""Sets of SAEs: those of a model whose ids differ in the layer only."""

from app.errors import NotFound
from app.rows.render import set_name
from app.store import pages, read
from app.store.engine import Shelf
from app.store.records import SaeRecord


def all_saes(shelf: Shelf, model_id: str) -> list[SaeRecord]:
    """A model's SAEs by id. NotFound when there is no such model."""
    return pages.all_of(lambda cursor: read.saes(shelf, model_id, pages.MAX_LIMIT, cursor))


def set_of(shelf: Shelf, model_id: str, name: str) -> list[SaeRecord]:
    """The SAEs of a set by layer. NotFound when there are none."""
    saes = [sae for sae in all_saes(shelf, model_id) if set_name(sae.id) == name]
    if not saes:
        raise NotFound(
            f"Model '{model_id}' has no set of SAEs '{name}'; GET /v1/models/{model_id}/saes lists its "
            "SAEs."
        )
    return sorted(saes, key=lambda sae: (sae.layer, sae.id))


def sources_of(shelf: Shelf, model_id: str, name: str, selected: list[str]) -> list[str]:
    """Ids of the SAEs of a set that can be run, or of those that are selected, by layer.

    Raises:
        NotFound: there is no such model or set, or a selected SAE is not of it.
    """
    there = {sae.id: sae for sae in set_of(shelf, model_id, name)}
    for one in selected:
        if one not in there:
            raise NotFound(
                f"'{one}' is no SAE of the set '{name}' of '{model_id}'; it has {', '.join(there)}."
            )
    chosen = [id for id, sae in there.items() if (id in selected if selected else sae.path)]
    return chosen or list(there)
