"""Features of an SAE: list, one.

One feature is the hot path of the service. Its answer is JSON bytes made from the stored evidence;
`Feature` documents them, and a test holds the two together.
"""

import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field

from app.api.conditional import tagged, tagged_body
from app.api.params import FeatureIndex, ModelId, PageQuery, SaeId
from app.api.problems import documented
from app.api.shapes import Feature, FeatureList
from app.api.state import Use
from app.contract.ids import ID_PATTERN
from app.store import read
from app.store.records import Example, Vocabulary
from app.store.records import Feature as StoredFeature

router = APIRouter(tags=["features"])


class FeatureQuery(PageQuery):
    """Which features, in which order."""

    sort: read.Sort = Field(default="index", description="What the list is ordered by.")
    order: read.Order = Field(default="asc", description="`desc` is the exact reverse of `asc`.")
    density_min: float | None = Field(default=None, description="Bounds include their ends.")
    density_max: float | None = None
    max_activation_min: float | None = None
    max_activation_max: float | None = None
    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Words, or beginnings of words: finds features that have all of them in their "
        "label or among the tokens that they promote or fire on most.",
    )


@router.get(
    "/v1/models/{model}/saes/{sae}/features",
    summary="List an SAE's features",
    response_model=FeatureList,
    responses=documented(400, 404, 410, 422),
)
def list_features(
    request: Request,
    services: Use,
    model: ModelId,
    sae: SaeId,
    query: Annotated[FeatureQuery, Query()],
) -> Response:
    """Features in pages: sorted by index, density or strongest activation, within bounds, or found
    by words.

    A cursor belongs to one list of one run. When the evidence was computed anew meanwhile, it is
    answered with 410, and the list is to be started again.
    """
    wanted = query.model_dump()
    ranges = read.Ranges(**{field.name: wanted.pop(field.name) for field in fields(read.Ranges)})
    page = read.features(services.shelf, model, sae, ranges=ranges, **wanted)
    return tagged_body(
        request, orjson.dumps({"items": page.items, "next_cursor": page.next_cursor})
    )


class FeatureRoute(APIRoute):
    """A route whose endpoint takes the path as it is: half the time of FastAPI's own way, which
    still documents the route, and which answers whatever is not a plain lookup."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        validating = super().get_route_handler()

        async def handle(request: Request) -> Response:
            path = request.path_params
            index = path["index"]
            plain = index.isdecimal() and index.isascii() and len(index) < 10
            if not plain or not _is_id(path["model"]) or not _is_id(path["sae"]):
                return await validating(request)
            return await get_feature(
                request, request.app.state.services, path["model"], path["sae"], int(index)
            )

        return handle


_is_id = re.compile(ID_PATTERN).match
lookups = APIRouter(tags=["features"], route_class=FeatureRoute)


@lookups.get(
    "/v1/models/{model}/saes/{sae}/features/{index}",
    summary="Look a feature up",
    response_model=Feature,
    responses=documented(404, 422),
)
async def get_feature(
    request: Request, services: Use, model: ModelId, sae: SaeId, index: FeatureIndex
) -> Response:
    """Everything about one feature: on what it fires (examples by rank), how often (density) and
    how strongly (histogram), which tokens it promotes and suppresses (logits), which features
    write in a similar direction (neighbors) and which neurons it is made of.

    Dead features have an empty history: no examples, a maximum of 0.
    """
    stored, vocabulary = read.lookup(services.shelf, model, sae, index)
    return tagged(request, stored.run_id, lambda: _json(stored, vocabulary))


def _json(feature: StoredFeature, vocabulary: Vocabulary) -> bytes:
    display = vocabulary.display
    return orjson.dumps(
        {
            "index": feature.index,
            "label": feature.label,
            "density": feature.density,
            "max_activation": feature.max_activation,
            "mean_activation": feature.mean_activation,
            "min_activation": feature.min_activation,
            "histogram": {"edges": feature.histogram_edges, "counts": feature.histogram_counts},
            "logits": {
                "top": [{"token": display[t], "value": v} for t, v in feature.top_logits],
                "bottom": [{"token": display[t], "value": v} for t, v in feature.bottom_logits],
            },
            "bands": [
                {"name": name, "examples": [_example(e, vocabulary) for e in examples]}
                for name, examples in groupby(feature.examples, lambda e: e.band)
            ],
            "neighbors": [{"index": i, "cosine": c} for i, c in feature.neighbors],
            "neurons": [{"layer": n, "index": i, "weight": w} for n, i, w in feature.neurons],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def _example(example: Example, vocabulary: Vocabulary) -> dict[str, Any]:
    pick = _picker(example.token_ids)
    return {
        "tokens": pick(vocabulary.display),
        "values": example.values,
        "peak": example.peak,
        "max": example.max,
        "sequence": example.sequence,
        "offset": example.offset,
        # A window may begin or end within a character.
        "text": b"".join(pick(vocabulary.raw)).decode(errors="replace"),
    }


def _picker(ids: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """Takes the items at `ids` out of a list, twice as fast as a comprehension."""
    if len(ids) > 1:
        return itemgetter(*ids)
    return lambda items: [items[i] for i in ids]  # `itemgetter` gives a single item bare
