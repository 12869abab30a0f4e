"""Features found by text: the most active ones of a whole text, or of every token."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StrictBool, WithJsonSchema

from app.api.disconnect import unless_disconnected
from app.api.state import Services, Use
from app.compat.neuronpedia.answer import json, packed
from app.compat.neuronpedia.digits import DIGITS, OrText
from app.compat.neuronpedia.errors import ASKS
from app.compat.neuronpedia.names import Asked
from app.compat.neuronpedia.reading import Wanted, rows_of
from app.compat.neuronpedia.shapes import NpNeuron
from app.compat.neuronpedia.texts import Given, Texts, check_texts
from app.compat.sources import sources_of
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import INDEX_MAX, Id
from app.contract.reading import ActiveRequest, RankRequest
from app.contract.search import MOST_SAES
from app.errors import TooLarge
from app.rows.about import model_row
from app.rows.found import Name
from app.rows.page import Row
from app.rows.render import set_name
from app.store import read

router = APIRouter(tags=["neuronpedia"])

MOST_FOUND = 4_096
"""Different features in an answer that has a row of each."""
_OFF = (0, -1)


_SAYS = "give a share above 0 and below 1, or -1 for none"
_NUMBER = {"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, {"const": -1}]}


def _share(value: float) -> float:
    if value not in _OFF and not 0 < value < 1:
        raise ValueError(_SAYS)
    return value


Threshold = Annotated[
    float,
    AfterValidator(_share),
    WithJsonSchema(_NUMBER),
    OrText(r"-1|0(\.[0-9]{1,20})?", _SAYS),
]
"""A bound on density; 0 and -1 are none."""


class TextSearched(Asked):
    """A text, and where to look."""

    modelId: Id
    sourceSet: Id = Field(description="What the ids of SAEs have behind the layer: `res-topk`.")
    text: Texts
    selectedLayers: list[Id] | None = Field(
        default=None, max_length=MOST_SAES, description="SAEs of the set; all without."
    )
    sortIndexes: list[Annotated[int, Field(ge=0, le=INDEX_MAX), DIGITS]] | None = Field(
        default=None,
        max_length=256,
        description="Places of tokens, of BOS too: rank by the sum of activations there. By the "
        "strongest activation without.",
    )
    ignoreBos: StrictBool | None = Field(default=True, description="Count activations at BOS as 0.")
    densityThreshold: Threshold | None = Field(
        default=-1, description="Leave out features that fire on a larger share of the corpus."
    )
    numResults: Annotated[int, Field(ge=0, le=100), DIGITS] | None = Field(
        default=50, description="Features in the answer; 0 is 50."
    )


class TokensSearched(Asked):
    """A text and an SAE."""

    modelId: Id
    source: Id
    text: Texts
    numResults: Annotated[int, Field(ge=1, le=20), DIGITS] | None = Field(
        default=10, description="Features for a token."
    )
    ignoreBos: StrictBool | None = Field(default=True, description="Leave special tokens out.")
    densityThreshold: Threshold | None = Field(
        default=0.01,
        description="Of the strongest, leave out those that fire on a larger share of the corpus. "
        "Texts in a list are not filtered.",
    )


class NpActiveRow(BaseModel):
    """A feature that is active on the text."""

    modelId: str
    layer: str
    index: str
    values: list[float] = Field(description="Its activation at every token.")
    maxValue: float
    maxValueIndex: int
    neuron: dict[str, Any] | None = Field(
        default=None,
        description="Its row, with its strongest activation, its explanations and its model; "
        "absent without evidence, and for texts in a list.",
    )


class NpFoundOnText(BaseModel):
    """The most active features of a text, most active first."""

    tokens: list[str] = Field(description="BOS included.")
    result: list[NpActiveRow]
    sortIndexes: list[int]


class NpFoundOnTexts(BaseModel):
    """An answer for each text."""

    results: list[NpFoundOnText]


class NpTopFeature(BaseModel):
    """A feature at a token."""

    featureIndex: int
    activationValue: float
    feature: NpNeuron | None = Field(
        default=None, description="Its row without activations; absent for texts in a list."
    )


class NpTopOfToken(BaseModel):
    """What is most active at a token."""

    position: int = Field(description="Place in the text, BOS counted.")
    token: str
    isSpecial: bool
    topFeatures: list[NpTopFeature]


class NpTopByToken(BaseModel):
    """A text, token by token."""

    source: str
    results: list[NpTopOfToken]


class NpTopByTokens(BaseModel):
    """An answer for each text."""

    results: list[NpTopByToken]


@router.post(
    "/api/search-all",
    summary="Find the most active features of a text, as Neuronpedia's clients ask",
    response_model=NpFoundOnText | NpFoundOnTexts,
    responses=ASKS,
)
async def np_search_text(
    request: Request,
    services: Use,
    body: Annotated[
        TextSearched,
        Body(
            openapi_examples={
                "text": {
                    "summary": "The strongest features of a text in all layers",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "sourceSet": set_name(BUNDLED_SAES[0]),
                        "text": "The old sailor was happy.",
                        "selectedLayers": [],
                        "sortIndexes": [],
                        "ignoreBos": True,
                        "numResults": 5,
                    },
                }
            }
        ),
    ],
) -> Response:
    """Features of a set of SAEs by how active they are on a text, with their dashboards.

    Only active features are answered. Texts in a list are answered with a list, without dashboards.
    """
    given: Given = body.text
    check_texts(services.settings, "text", given)
    saes = await asyncio.to_thread(
        sources_of, services.shelf, body.modelId, body.sourceSet, body.selectedLayers or []
    )
    at, bound = sorted(set(body.sortIndexes or [])), body.densityThreshold
    wanted = RankRequest(
        model=body.modelId,
        texts=given.texts,
        saes=saes,
        at=at,
        skip_bos=body.ignoreBos is not False,
        density_max=None if bound is None or bound in _OFF else bound,
        limit=body.numResults or 50,
    )
    told = await unless_disconnected(request, services.live.rank(wanted))
    # On a thread: there may be millions of values.
    return await asyncio.to_thread(_all_found, services, body.modelId, told, at, given.as_list)


def _all_found(
    services: Services, model: str, told: bytes, at: list[int], as_list: bool
) -> Response:
    answers = [_found(model, result, at) for result in orjson.loads(told)["results"]]
    return json({"results": answers}) if as_list else _with_neurons(services, model, answers[0])


def _found(model: str, result: dict[str, Any], at: list[int]) -> Row:
    rows = [
        {
            "modelId": model,
            "layer": one["sae"],
            "index": str(one["feature"]),
            "values": one["values"],
            "maxValue": max(one["values"]),
            "maxValueIndex": one["values"].index(max(one["values"])),
        }
        for one in result["features"]
    ]
    return {"tokens": result["tokens"], "result": rows, "sortIndexes": at}


def _with_neurons(services: Services, model: str, answer: Row) -> Response:
    """The answer with the rows of its features, where they have evidence."""
    about = model_row(read.model(services.shelf, model))
    names = [Name(model, row["layer"], int(row["index"])) for row in answer["result"]]
    neurons = list(rows_of(services, [Wanted(name, 1) for name in names]))
    there = packed(services.settings, (row | {"model": about} for row in neurons if row))
    for row, neuron in zip(answer["result"], neurons, strict=True):
        if neuron:
            row["neuron"] = next(there)
    return json(answer)


@router.post(
    "/api/search-topk-by-token",
    summary="Find the most active features of every token, as Neuronpedia's clients ask",
    response_model=NpTopByToken | NpTopByTokens,
    responses=ASKS,
)
async def np_search_tokens(
    request: Request,
    services: Use,
    body: Annotated[
        TokensSearched,
        Body(
            openapi_examples={
                "text": {
                    "summary": "The strongest rare features of every token",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "source": BUNDLED_SAES[0],
                        "text": "She hid.",
                        "numResults": 3,
                        "densityThreshold": 0.05,
                    },
                }
            }
        ),
    ],
) -> Response:
    """The strongest features of an SAE at every token, with their rows."""
    given: Given = body.text
    check_texts(services.settings, "text", given)
    wanted = ActiveRequest(
        model=body.modelId, sae=body.source, texts=given.texts, top_k=body.numResults or 10
    )
    told = await unless_disconnected(request, services.live.active(wanted))
    return await asyncio.to_thread(_all_tokens, services, body, told)


def _all_tokens(services: Services, body: TokensSearched, told: bytes) -> Response:
    skips = body.ignoreBos is not False
    answers = [
        {"source": body.source, "results": _by_token(result, skips)}
        for result in orjson.loads(told)["results"]
    ]
    if body.text.as_list:
        return json({"results": answers})
    return _with_features(services, body, answers[0])


def _by_token(result: dict[str, Any], skips_special: bool) -> list[Row]:
    columns = zip(result["tokens"], result["special"], result["top"], strict=True)
    return [
        {
            "position": position,
            "token": token,
            "isSpecial": special,
            "topFeatures": [
                {"featureIndex": one["feature"], "activationValue": one["value"]} for one in top
            ],
        }
        for position, (token, special, top) in enumerate(columns)
        if not (special and skips_special)
    ]


def _with_features(services: Services, body: TokensSearched, answer: Row) -> Response:
    """The answer with the rows of its features, without those that fire too often."""
    tops = [row["topFeatures"] for row in answer["results"]]
    indices = list(dict.fromkeys(one["featureIndex"] for top in tops for one in top))
    if len(indices) > MOST_FOUND:
        raise TooLarge(
            f"{len(indices):,} different features are among the strongest of these tokens; one answer "
            f"has rows of {MOST_FOUND:,}. Search a shorter text, or set a smaller numResults."
        )
    names = [Wanted(Name(body.modelId, body.source, index), 0) for index in indices]
    bound = body.densityThreshold
    filters = bound is not None and bound not in _OFF
    kept: list[int] = []

    def rows() -> Iterator[Row]:
        for index, row in zip(indices, rows_of(services, names), strict=True):
            if row and not (filters and not 0 < row["frac_nonzero"] <= (bound or 0)):
                kept.append(index)
                yield row | {"explanations": row["explanations"][:1]}

    shown = dict(zip(kept, list(packed(services.settings, rows())), strict=True))
    if filters:
        for top in tops:
            top[:] = [one for one in top if one["featureIndex"] in shown]
    for one in (one for top in tops for one in top if one["featureIndex"] in shown):
        one["feature"] = shown[one["featureIndex"]]
    return json(answer)
