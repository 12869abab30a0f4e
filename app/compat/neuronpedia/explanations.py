"""Explanations, which here are labels: found by words, and read by their ids.

An id says what is explained, `{model}.{source}.{index}`, with `:n` behind it for an imported
feature's explanations after the first. Ids that explanations had elsewhere mean nothing here.
"""

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from pydantic import BaseModel, Field
from starlette.convertors import Convertor, register_url_convertor

from app.api.state import Services, Use
from app.compat.neuronpedia.answer import json, packed
from app.compat.neuronpedia.digits import DIGITS
from app.compat.neuronpedia.errors import ASKS, READS
from app.compat.neuronpedia.names import Asked
from app.compat.neuronpedia.neurons import neuron_row
from app.compat.neuronpedia.reading import Wanted, rows_of
from app.compat.neuronpedia.shapes import NpExplanation, NpNeuron
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import INDEX_MAX, Id
from app.errors import Conflict, NotFound
from app.rows.found import Name
from app.rows.page import Row
from app.rows.render import set_name
from app.store import find, labels
from app.store.labels import Hit, Served

router = APIRouter(tags=["neuronpedia"])

PAGE = 20
ACTIVATIONS = 3
"""Of each feature that is found."""
MOST_SOURCES = 1_000


class _Explanation(Convertor[str]):
    """What may be an explanation's id: the paths of searches take POST alone."""

    regex = "(?!search(-[a-z]+)?$)[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("explanation", _Explanation())
_ID = re.compile(r"([A-Za-z0-9._-]{3,300})\.([0-9]{1,10})(?::([0-9]{1,4}))?")


class Search(Asked):
    """Words, and where to go on."""

    query: str = Field(
        min_length=3,
        max_length=500,
        description="Words, or beginnings of words: at most 16 different ones.",
    )
    offset: Annotated[int, Field(ge=0, le=100_000), DIGITS] | None = Field(
        default=0, description="`nextOffset` of the page before."
    )


class SearchSources(Search):
    """Words, and SAEs of a model."""

    modelId: Id
    layers: list[Id] = Field(min_length=1, max_length=MOST_SOURCES, description="Ids of SAEs.")


class SearchModel(Search):
    """Words, and a model."""

    modelId: Id


class SearchRelease(Search):
    """Words, and a release."""

    releaseName: str = Field(
        min_length=1,
        max_length=200,
        description="What `release.jsonl` of an import calls it, or the release of SAELens' directory "
        "that its SAEs were loaded from; of other SAEs the name of their set.",
    )


class NpFound(BaseModel):
    """An explanation that was found."""

    id: str
    modelId: str
    layer: str
    index: str
    description: str
    explanationModelName: str | None
    typeName: str | None
    cosine_similarity: None = Field(description="Null: words are compared here, not embeddings.")
    wordsFound: int = Field(description="Words of the query that the feature has: the rank.")
    wordsFoundInLabel: int = Field(description="Those of them in the explanation itself.")
    neuron: NpNeuron = Field(description="With its three strongest activations.")


class NpSearchAnswer(BaseModel):
    """A page of explanations."""

    request: dict[str, Any]
    results: list[NpFound]
    resultsCount: int = Field(description="On this page.")
    hasMore: bool
    nextOffset: int | None = Field(default=None, description="Absent on the last page.")


class NpAuthor(BaseModel):
    """Nobody that is known here."""

    name: None


class NpWholeExplanation(NpExplanation):
    """An explanation with what it explains."""

    author: NpAuthor
    votes: list[Any]
    activationsV1: list[Any]
    neuron: NpNeuron
    model: dict[str, Any]


def _example(**where: Any) -> Any:
    return Body(
        openapi_examples={
            "joy": {
                "summary": "What laughs or claps",
                "value": {**where, "query": "laughed clapped"},
            }
        }
    )


@router.post(
    "/api/explanation/search",
    summary="Search the explanations of SAEs, as Neuronpedia's clients ask",
    response_model=NpSearchAnswer,
    responses=ASKS,
)
def np_search_sources(
    services: Use,
    wanted: Annotated[SearchSources, _example(modelId=BUNDLED_MODEL, layers=[BUNDLED_SAES[0]])],
) -> Response:
    """Features whose explanation, or whose promoted tokens or peaks, have words of the query: those
    with the most of them first, then those whose explanation itself has more. 20 on a page."""
    among = labels.of_model(services.shelf, wanted.modelId, wanted.layers)
    return _answer(services, wanted, among)


@router.post(
    "/api/explanation/search-model",
    summary="Search the explanations of a model, as Neuronpedia's clients ask",
    response_model=NpSearchAnswer,
    responses=ASKS,
)
def np_search_model(
    services: Use, wanted: Annotated[SearchModel, _example(modelId=BUNDLED_MODEL)]
) -> Response:
    """The same over all SAEs of a model, its neurons among them."""
    return _answer(services, wanted, labels.of_model(services.shelf, wanted.modelId))


@router.post(
    "/api/explanation/search-release",
    summary="Search the explanations of a release, as Neuronpedia's clients ask",
    response_model=NpSearchAnswer,
    responses=ASKS,
)
def np_search_release(
    services: Use,
    wanted: Annotated[SearchRelease, _example(releaseName=set_name(BUNDLED_SAES[0]))],
) -> Response:
    """The same over all SAEs of a release, whatever their model."""
    return _answer(services, wanted, services.releases(wanted.releaseName))


@router.post(
    "/api/explanation/search-all",
    summary="Search all explanations, as Neuronpedia's clients ask",
    response_model=NpSearchAnswer,
    responses=ASKS,
)
def np_search_explanations(services: Use, wanted: Annotated[Search, _example()]) -> Response:
    """The same over all SAEs of all models."""
    return _answer(services, wanted, labels.of_all(services.shelf))


@router.get(
    "/api/explanation/{explanation:explanation}",
    summary="Read an explanation, as Neuronpedia's clients ask",
    response_model=NpWholeExplanation,
    responses=READS,
)
async def np_get_explanation(
    services: Use,
    explanation: Annotated[
        str,
        Path(
            max_length=320,
            description="`{model}.{source}.{index}`, as rows of explanations name it.",
            openapi_examples={"bundled": {"value": f"{BUNDLED_MODEL}.{BUNDLED_SAES[0]}.266"}},
        ),
    ],
) -> Response:
    """An explanation with the feature that it explains, all its activations included."""
    name, place = await asyncio.to_thread(_named, services, explanation)
    found = await services.finder(name)
    row = neuron_row(found)
    if place >= len(row["explanations"]):
        raise _unknown(explanation)
    return json(
        {
            **row["explanations"][place],
            "author": {"name": None},
            "votes": [],
            "activationsV1": [],
            "neuron": row,
            "model": found.source.about["model"],
        }
    )


def _answer(services: Services, wanted: Search, among: list[Served]) -> Response:
    offset = wanted.offset or 0
    hits, more = labels.search(services.shelf, among, wanted.query, offset, PAGE)
    results = _results(services, hits)
    whole = {
        "request": wanted.model_dump(),
        "results": results,
        "resultsCount": len(results),
        "hasMore": more,
    }
    return json(whole | ({"nextOffset": offset + len(hits)} if more else {}))


def _results(services: Services, hits: list[Hit]) -> list[Row]:
    """Rows of hits; one whose evidence was deleted at this moment is left out."""
    names = [Wanted(Name(hit.model_id, hit.sae_id, hit.index), ACTIVATIONS) for hit in hits]
    pairs = zip(hits, rows_of(services, names), strict=True)
    there = [(hit, row) for hit, row in pairs if row and row["explanations"]]
    neurons = packed(services.settings, [row for _, row in there])
    return [
        _result(hit, row["explanations"][0], neuron)
        for (hit, row), neuron in zip(there, neurons, strict=True)
    ]


def _result(hit: Hit, explanation: Row, neuron: object) -> Row:
    columns = (
        "id", "modelId", "layer", "index", "description", "explanationModelName", "typeName",
    )  # fmt: skip
    return {
        **{column: explanation[column] for column in columns},
        "cosine_similarity": None,
        "wordsFound": hit.n_words,
        "wordsFoundInLabel": hit.n_in_label,
        "neuron": neuron,
    }


def _named(services: Services, explanation: str) -> tuple[Name, int]:
    """The feature that an id names, and which of its explanations. Names of models and of SAEs may
    have dots, so that each dot may be the one between them."""
    match = _ID.fullmatch(explanation)
    if match is None or int(match[2]) > INDEX_MAX:
        raise _unknown(explanation)
    parts = match[1].split(".")
    splits = [(".".join(parts[:n]), ".".join(parts[n:])) for n in range(1, len(parts))]
    with services.shelf.read() as connection:
        there = find.saes_among(connection, splits)
    if len(there) > 1:
        raise Conflict(
            f"'{explanation}' may be of several SAEs; GET /api/feature/... tells them apart."
        )
    if not there:
        raise _unknown(explanation)
    return Name(*there[0], int(match[2])), int(match[3] or 0)


def _unknown(explanation: str) -> NotFound:
    return NotFound(
        f"There is no explanation '{explanation}'; ids are {{model}}.{{source}}.{{index}} here."
    )
