"""Features of all of a model's SAEs, found by words."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.params import ModelId
from app.api.state import Use
from app.store import labels, read
from app.store.engine import Shelf
from app.store.records import FeatureSummary
from app.web.page import page

router = APIRouter(include_in_schema=False)
PAGE = 30


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
    hits, more = labels.search(shelf, labels.of_model(shelf, model), q, offset, PAGE)
    return page(
        services,
        request,
        "find.html",
        model=model,
        q=q,
        found=[(hit.sae_id, feature) for hit, feature in with_summaries(shelf, model, hits)],
        following=offset + PAGE if more else None,
    )


def with_summaries(
    shelf: Shelf, model: str, hits: Sequence[labels.Hit]
) -> list[tuple[labels.Hit, FeatureSummary]]:
    """Each with what lists tell of it, in their order; without those that are gone by now."""
    by_sae: dict[str, list[int]] = {}
    for hit in hits:
        by_sae.setdefault(hit.sae_id, []).append(hit.index)
    known = {sae: read.summaries(shelf, model, sae, some) for sae, some in by_sae.items()}
    return [(hit, known[hit.sae_id][hit.index]) for hit in hits if hit.index in known[hit.sae_id]]
