"""Features by their names: one, several, a page; and the activations of one.

One feature is what dashboards ask for, so that it goes the way of `/v1`'s lookups: past FastAPI, and
without a thread.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field

from app.api.conditional import tagged_body, tagged_by_size
from app.api.features import Named
from app.api.params import FeatureIndex, ModelId, SaeId
from app.api.state import Services, Use
from app.compat.neuronpedia.answer import dump, json, packed
from app.compat.neuronpedia.digits import DIGITS
from app.compat.neuronpedia.errors import ASKS, READS
from app.compat.neuronpedia.keys import HEADER, KEYED_OR_NOT, owner_of
from app.compat.neuronpedia.names import Asked, FeatureName, SourceName
from app.compat.neuronpedia.neurons import InLists, activation_rows, whole_row, whole_row_of_vector
from app.compat.neuronpedia.reading import Wanted, rows_of
from app.compat.neuronpedia.shapes import NpActivation, NpNeuron, NpWholeNeuron
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import INDEX_MAX, Id
from app.errors import NotFound
from app.rows.about import model_row
from app.rows.found import Name
from app.store import lists, read, vectors
from app.store.vectors import Vector

router = APIRouter(tags=["neuronpedia"])

MOST_FEATURES = 100
"""Features that one request may name."""
PAGE = 25
_SOURCE = {"modelId": BUNDLED_MODEL, "layer": BUNDLED_SAES[0]}
EXAMPLE: dict[str, Any] = {**_SOURCE, "index": 266}


class FeatureWanted(FeatureName):
    """A feature, and how much of it."""

    maxActsToReturn: Annotated[int, Field(ge=0, le=10_000), DIGITS] | None = Field(
        default=None, description="Its strongest activations, at most so many; null for all."
    )


class PageWanted(Asked):
    """A page of an SAE's features."""

    modelId: Id
    layer: Id
    offset: Annotated[int, Field(ge=0, le=INDEX_MAX), DIGITS] | None = Field(
        default=0, description="Features that fire, to skip."
    )


@router.get(
    "/api/feature/{model}/{source}/{index}",
    summary="Look a feature up, as Neuronpedia's clients ask",
    response_model=NpWholeNeuron,
    responses=READS,
    openapi_extra=KEYED_OR_NOT,
)
async def np_get_feature(
    request: Request, services: Use, model: ModelId, source: SaeId, index: FeatureIndex
) -> Response:
    """A feature's row with its activations, strongest first, its explanations, and its model, source
    and source set; or a vector that was made with `vector/new`.

    With a key in `x-api-key`, `lists` has those of the key's lists that it is in.
    """
    name, owner = Name(model, source, index), owner_of(request)
    in_lists: InLists = []
    if owner:
        in_lists = await asyncio.to_thread(lists.holding, services.shelf, owner, name)
    if vectors.is_source(source):
        kept = await asyncio.to_thread(_vector, services, name)
        if kept:
            return _keyed(tagged_body(request, dump(whole_row_of_vector(*kept, in_lists))))
    found = await services.finder(name)
    identity = f"{found.feature.run_id} {in_lists}"
    values = found.feature.windows.values.size
    return _keyed(
        await tagged_by_size(request, identity, lambda: dump(whole_row(found, in_lists)), values)
    )


def _vector(services: Services, name: Name) -> tuple[Vector, dict[str, Any] | None] | None:
    """A vector and its model's row, where it is there."""
    some = vectors.found(services.shelf, [name])
    if not some:
        return None
    try:
        return some[0], model_row(read.model(services.shelf, name.model))
    except NotFound:
        return some[0], None


def _keyed(response: Response) -> Response:
    """An answer that another key might get another one for."""
    response.headers.add_vary_header(HEADER)
    return response


async def _lookup(request: Request) -> Response:
    return await np_get_feature(request, request.app.state.services, **request.path_params)


lookup = Named("/api/feature/{model:id}/{source:id}/{index:index}", _lookup)
"""Answers every well-formed lookup, as `app.api.features.lookup` does."""


@router.post(
    "/api/features",
    summary="Look several features up, as Neuronpedia's clients ask",
    response_model=list[NpNeuron],
    responses=ASKS,
)
def np_get_features(
    services: Use,
    wanted: Annotated[
        list[FeatureWanted],
        Body(
            max_length=MOST_FEATURES,
            openapi_examples={
                "two": {
                    "summary": "Two features, one with its strongest activations only",
                    "value": [EXAMPLE, {**EXAMPLE, "index": 12, "maxActsToReturn": 3}],
                }
            },
        ),
    ],
) -> Response:
    """Rows of at most 100 features, in the order in which they are named. One that does not exist is
    left out. `maxActsToReturn` counts for each by itself."""
    rows = rows_of(services, [Wanted(one.name, one.maxActsToReturn) for one in wanted])
    return json(list(packed(services.settings, filter(None, rows))))


@router.post(
    "/api/features-offset",
    summary="Page through the features that fire, as Neuronpedia's clients ask",
    response_model=list[NpNeuron],
    responses=ASKS,
)
def np_get_features_page(
    services: Use,
    wanted: Annotated[
        PageWanted,
        Body(
            openapi_examples={
                "second": {
                    "summary": "The second page of an SAE",
                    "value": {**_SOURCE, "offset": PAGE},
                }
            }
        ),
    ],
) -> Response:
    """25 features by their index, of those that are not dead, behind the first `offset` of them."""
    indices = read.alive(services.shelf, wanted.modelId, wanted.layer, wanted.offset or 0, PAGE)
    names = [Wanted(Name(wanted.modelId, wanted.layer, index)) for index in indices]
    return json(list(packed(services.settings, filter(None, rows_of(services, names)))))


@router.post(
    "/api/activation/get",
    summary="Look a feature's activations up, as Neuronpedia's clients ask",
    response_model=list[NpActivation],
    responses=ASKS,
)
async def np_get_activations(
    services: Use,
    wanted: Annotated[
        SourceName,
        Body(
            openapi_examples={
                "one": {
                    "summary": "The activations of a feature",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "source": BUNDLED_SAES[0],
                        "index": "266",
                    },
                }
            }
        ),
    ],
) -> Response:
    """All stored activations of one feature, strongest first. A vector has none."""
    if vectors.is_source(wanted.source) and await asyncio.to_thread(
        vectors.found, services.shelf, [wanted.name]
    ):
        return json([])
    return json(activation_rows(await services.finder(wanted.name)))
