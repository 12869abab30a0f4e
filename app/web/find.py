"""Features of all of a model's SAEs, found by words."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.params import ModelId
from app.api.state import Use
from app.contract.ids import is_neuron_source
from app.errors import Invalid
from app.store import labels, read
from app.store.engine import Shelf
from app.store.records import FeatureSummary
from app.web.page import page

router = APIRouter(include_in_schema=False)
PAGE = 48


@router.get("/models/{model}/find")
def find_page(
    request: Request,
    services: Use,
    model: ModelId,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """Those that have the most of the words first."""
    shelf = services.shelf
    hits, more, problem = [], False, None
    try:
        hits, more = labels.search(shelf, labels.of_model(shelf, model), q, offset, PAGE)
    except Invalid as invalid:
        problem = invalid.detail
    return page(
        services,
        request,
        "find.html",
        model=model,
        q=q,
        problem=problem,
        found=[(hit.sae_id, feature) for hit, feature in ranked(shelf, model, q, hits)],
        following=offset + PAGE if more else None,
    )


def ranked(
    shelf: Shelf, model: str, q: str, hits: Sequence[labels.Hit]
) -> list[tuple[labels.Hit, FeatureSummary]]:
    """Each with what lists tell of it, those that fit best first. Of equal ones neurons last, which are
    about many things; first those whose label has a word earliest, as it begins with what a feature is
    most about; then the rarest. Without those that are gone by now."""
    by_sae: dict[str, list[int]] = {}
    for hit in hits:
        by_sae.setdefault(hit.sae_id, []).append(hit.index)
    known = {sae: read.summaries(shelf, model, sae, some) for sae, some in by_sae.items()}
    found = [(hit, known[hit.sae_id][hit.index]) for hit in hits if hit.index in known[hit.sae_id]]
    words = q.casefold().split()

    def place(hit: labels.Hit, feature: FeatureSummary) -> tuple[float, ...]:
        label = (feature.label or "").casefold()
        at = [label.index(word) for word in words if word in label]
        return (
            -hit.n_words,
            -hit.n_in_label,
            is_neuron_source(hit.sae_id),
            min(at, default=len(label)),
            feature.density,
        )

    return sorted(found, key=lambda one: place(*one))
