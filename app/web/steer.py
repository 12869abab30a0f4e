"""The steer page: features found by words, how strongly each is to act, and the texts that the model
then writes. What it asks of the model goes from its script to /v1/steer and /v1/steer/sweep."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from app.api.state import Services, Use
from app.contract.ids import Id
from app.contract.steering import Method
from app.errors import Invalid, NotFound, Problem
from app.store import labels, read
from app.store.engine import Shelf
from app.store.records import Feature, FeatureSummary, SaeRecord
from app.web.find import ranked
from app.web.page import fragment, page
from app.web.steer_query import (
    LONGEST,
    LONGEST_ADDRESS,
    MOST_PROMPTS,
    MOST_SEEDS,
    Chosen,
    address,
    asked,
)

router = APIRouter(include_in_schema=False)

HITS, LOOKED_AT = 8, 48
"""Features that a search shows, and from how many they are."""
METHODS: dict[Method, str] = {
    "add": "adds the feature's direction: at strength 1 as much as where it fires strongest",
    "clamp": "holds its activation at the strength",
    "ablate": "holds its activation at 0",
    "orthogonal": "multiplies what lies in its direction: 0 takes it out, 1 changes nothing",
    "cap": "cuts off what lies in its direction above the strength",
}
assert tuple(METHODS) == get_args(Method)


@dataclass(frozen=True)
class Row:
    """A feature that is steered with, or can be, as the page shows it."""

    chosen: Chosen
    feature: Feature | FeatureSummary


@router.get("/steer")
async def steer_page(request: Request, services: Use) -> Response:
    """The page in the state that its query tells. What of it cannot be shown is told."""
    problems: list[Problem] = []
    try:
        query = asked(request.query_params, services.settings)
    except Problem as problem:
        query, problems = asked(QueryParams(), services.settings), [problem]
    models = await asyncio.to_thread(_models, services.shelf)
    model = query.model or next(iter(models), None)
    rows: list[Row] = []
    if query.model and query.model not in models:
        model = next(iter(models), None)
        problems.append(NotFound(f"There is no model {query.model} that can be steered here."))
    elif model:
        rows = await _rows(services, model, query.steer, problems)
    return page(
        services,
        request,
        "steer.html",
        status=problems[0].status if problems else 200,
        told=list(dict.fromkeys(problem.detail for problem in problems)),
        models=models,
        model=model,
        query=query,
        rows=rows,
        methods=METHODS,
        most={
            "features": services.settings.max_steering,
            "prompts": MOST_PROMPTS,
            "address": LONGEST_ADDRESS,
            "seeds": MOST_SEEDS,
            "characters": LONGEST,
            "tokens": services.settings.max_new_tokens,
        },
    )


@router.get("/steer/find")
async def found_features(
    services: Use,
    model: Annotated[Id, Query()],
    q: Annotated[str, Query(max_length=200)],
) -> Response:
    """Features that have some of the words, of all SAEs that the model can be steered with: a part of
    the page."""
    rows = await asyncio.to_thread(_search, services.shelf, model, q) if q.strip() else []
    return fragment(
        "hits.html", rows=rows, asked=q.strip(), model=model, methods=METHODS, most=HITS
    )


def panel(services: Services, sae: SaeRecord, feature: Feature) -> dict[str, Any]:
    """What the panel on a feature's page shows."""
    return {
        "why_not": _why_not(sae, feature),
        "query": asked(QueryParams(), services.settings),
        "longest": LONGEST,
        "address": address(sae.model_id, sae.id, feature.index),
    }


def _why_not(sae: SaeRecord, feature: Feature) -> str | None:
    """Why a feature cannot be steered with; None where it can."""
    if not sae.steerable:
        return f"{sae.id} cannot be steered with: {sae.steerable_reason}."
    if feature.max_activation <= 0:
        return (
            f"Feature {feature.index} of {sae.id} never fired on the corpus, so that there is no "
            "unit to count its strength in."
        )
    return None


def _models(shelf: Shelf) -> list[str]:
    return list(dict.fromkeys(one.model_id for one in labels.steerable(shelf)))


def _search(shelf: Shelf, model: str, q: str) -> list[Row]:
    """Of the first features that were found, those that fit best and fire at all."""
    among = [one for one in labels.steerable(shelf) if one.model_id == model]
    if not among:
        raise NotFound(f"There is no model {model} that can be steered here.")
    hits, _ = labels.search(shelf, among, q, 0, LOOKED_AT)
    rows = [
        Row(Chosen(sae=hit.sae_id, feature=hit.index), feature)
        for hit, feature in ranked(shelf, model, q, hits)
    ]
    return [row for row in rows if row.feature.max_activation > 0][:HITS]


async def _rows(
    services: Services, model: str, chosen: list[Chosen], problems: list[Problem]
) -> list[Row]:
    """Those that there are; what is wrong with the others is added to the problems."""
    rows = []
    for one in chosen:
        try:
            rows.append(await _row(services, model, one))
        except Problem as problem:
            problems.append(problem)
    return rows


async def _row(services: Services, model: str, chosen: Chosen) -> Row:
    sae = await asyncio.to_thread(read.sae, services.shelf, model, chosen.sae)
    feature, _ = await services.lookups(model, chosen.sae, chosen.feature)
    if reason := _why_not(sae, feature):
        raise Invalid(reason)
    return Row(chosen, feature)
