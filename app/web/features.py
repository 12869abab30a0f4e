"""A feature's page: what it fires on, what it writes, and boxes to try it."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api.disconnect import unless_disconnected
from app.api.features import body_of
from app.api.limits import check_text
from app.api.params import FeatureIndex, ModelId, SaeId
from app.api.state import Services, Use
from app.contract.reading import ValuesRequest
from app.errors import NotFound
from app.rows.found import Name
from app.store import neurons, read
from app.store.records import IMPORTED, Feature, Vocabulary
from app.web import snippets, steer
from app.web.context import surroundings
from app.web.page import fragment, page
from app.web.tokens import Strip, pieces_of, strip

router = APIRouter(include_in_schema=False)

TITLES = {
    "top": "Strongest",
    "q5": "Strongest fifth",
    "q4": "Second fifth",
    "q3": "Middle fifth",
    "q2": "Fourth fifth",
    "q1": "Weakest fifth",
}
"""Of bands."""


class Tried(BaseModel):
    """A text of somebody's own."""

    text: Annotated[str, Field(min_length=1)]


@router.get("/models/{model}/saes/{sae}/features/{index}")
async def feature_page(
    request: Request, services: Use, model: ModelId, sae: SaeId, index: FeatureIndex
) -> Response:
    """All evidence of a feature, as a page."""
    found = await services.lookups(model, sae, index)
    # On a thread: imported features may be large, and a page takes longer than its JSON.
    return await asyncio.to_thread(_page, request, services, Name(model, sae, index), *found)


def _page(
    request: Request, services: Services, name: Name, stored: Feature, vocabulary: Vocabulary
) -> Response:
    model, sae, index = name
    feature, record = body_of(stored, vocabulary), read.sae(services.shelf, model, sae)
    panel = steer.panel(services, record, stored)
    steers = panel["why_not"] is None
    return page(
        services,
        request,
        "feature.html",
        model=model,
        sae=sae,
        feature=feature,
        bands=_bands(feature),
        path=f"/models/{model}/saes/{sae}/features/{index}",
        snippets=snippets.of_feature(str(request.base_url), model, sae, index, steers),
        panel=panel,
        can_read=record.architecture != IMPORTED,
        split_layers=neurons.split_layers(services.shelf, model),
    )


def _bands(feature: dict[str, Any]) -> list[tuple[str, list[Strip]]]:
    """Title and strips of each band."""
    largest = feature["max_activation"]
    return [
        (TITLES[band["name"]], [strip(one, largest) for one in band["examples"]])
        for band in feature["bands"]
    ]


@router.get("/models/{model}/saes/{sae}/features/{index}/context")
async def longer_context(
    services: Use,
    model: ModelId,
    sae: SaeId,
    index: FeatureIndex,
    sequence: Annotated[int, Query(ge=0)],
    offset: Annotated[int, Query(ge=0)],
) -> Response:
    """An example with more of what is around it: a part of the feature's page."""
    stored, vocabulary = await services.lookups(model, sae, index)
    examples = [one for band in body_of(stored, vocabulary)["bands"] for one in band["examples"]]
    found = [one for one in examples if (one["sequence"], one["offset"]) == (sequence, offset)]
    if not found:
        raise NotFound(f"Feature {index} has no example at sequence {sequence}, offset {offset}.")
    one = found[0]
    before, after = await asyncio.to_thread(
        surroundings, services.shelf, stored.run_id, sequence, offset, len(one["tokens"])
    )
    return fragment(
        "context.html",
        before=vocabulary.shown[before].tolist(),
        pieces=list(pieces_of(one["tokens"], one["values"], stored.max_activation, one["peak"])),
        after=vocabulary.shown[after].tolist(),
    )


@router.post("/models/{model}/saes/{sae}/features/{index}/try")
async def try_text(
    request: Request,
    services: Use,
    model: ModelId,
    sae: SaeId,
    index: FeatureIndex,
    tried: Tried,
) -> Response:
    """How the feature fires on a text: a part of its page."""
    stored, _ = await services.lookups(model, sae, index)
    check_text(services.settings, "text", tried.text)
    wanted = ValuesRequest(model=model, texts=[tried.text], sae=sae, feature=index)
    answer = await unless_disconnected(request, services.live.values(wanted))
    (told,) = orjson.loads(answer)["results"]
    values = told["values"]
    largest = max(stored.max_activation, *values)
    return fragment(
        "tried.html",
        pieces=list(pieces_of(told["tokens"], values, largest)),
        max=max(values),
        max_activation=stored.max_activation,
    )
