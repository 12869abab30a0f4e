"""Models and their sets of sources. A set is made of the SAEs whose ids differ in the layer only."""

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.conditional import tagged_body
from app.api.params import ModelId
from app.api.state import Use
from app.compat.neuronpedia.answer import dump, json
from app.compat.neuronpedia.errors import ASKS, READS, documented
from app.compat.neuronpedia.names import Asked
from app.compat.sources import all_saes, set_of
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import ID_PATTERN, Id
from app.rows.about import model_row, served
from app.rows.page import Row
from app.rows.render import set_name
from app.store import pages, read
from app.store.engine import Shelf
from app.store.records import ModelRecord, SaeRecord

router = APIRouter(tags=["neuronpedia"])
_ROW = ConfigDict(extra="allow")


class NpSource(BaseModel):
    """An SAE."""

    model_config = _ROW

    id: str
    modelId: str
    setName: str
    hasDashboards: bool = Field(description="Whether its features have evidence.")


class NpSourceSet(BaseModel):
    """SAEs of one kind, a source each layer that has one."""

    model_config = _ROW

    modelId: str
    name: str
    description: str | None
    urls: list[str]
    releaseName: str
    sources: list[NpSource]


class NpModel(BaseModel):
    """A registered model."""

    model_config = _ROW

    id: str
    displayName: str
    displayNameShort: str
    layers: int
    neuronsPerLayer: int
    dimension: int = Field(description="Width of the residual stream; 0 where it is not known.")
    website: str | None
    visibility: str
    inferenceEnabled: bool = Field(description="Whether the model itself is here.")
    instruct: bool = Field(description="Whether it has a chat template.")


class NpModelWithSets(NpModel):
    """A model with its sets of sources."""

    sourceSets: list[NpSourceSet]


class ModelWanted(Asked):
    """A model."""

    id: Id


@router.post(
    "/api/model/get",
    summary="Look a model up, as Neuronpedia's clients ask",
    response_model=NpModelWithSets,
    responses=ASKS,
)
def np_get_model(
    services: Use,
    wanted: Annotated[
        ModelWanted,
        Body(
            openapi_examples={
                "bundled": {"summary": "The bundled model", "value": {"id": BUNDLED_MODEL}}
            }
        ),
    ],
) -> Response:
    """A model, and its sets of sources by name."""
    model = read.model(services.shelf, wanted.id)
    saes = sorted(all_saes(services.shelf, wanted.id), key=lambda sae: set_name(sae.id))
    sets = [_set(model, list(some)) for _, some in groupby(saes, lambda sae: set_name(sae.id))]
    return json({**_shown(model), "sourceSets": sets})


@router.post(
    "/api/model/list",
    summary="List the models, as Neuronpedia's clients ask",
    response_model=list[NpModel],
    responses=documented(403, 503),
)
def np_list_models(services: Use) -> Response:
    """All registered models by id. It takes no body."""
    return json([_shown(model) for model in _models(services.shelf)])


@router.get(
    "/api/source-set/{model}/{name}",
    summary="Look a set of SAEs up, as Neuronpedia's clients ask",
    response_model=NpSourceSet,
    responses=READS,
)
def np_get_source_set(
    request: Request,
    services: Use,
    model: ModelId,
    name: Annotated[
        str,
        Path(
            pattern=ID_PATTERN,
            max_length=128,
            description="What the ids of its SAEs have behind the layer: `res-topk`.",
            openapi_examples={"bundled": {"value": set_name(BUNDLED_SAES[0])}},
        ),
    ],
) -> Response:
    """A set, with the SAEs that are in it, by layer."""
    record = read.model(services.shelf, model)
    saes = set_of(services.shelf, model, name)
    return tagged_body(request, dump(_set(record, saes)))


def _shown(model: ModelRecord) -> Row:
    return {
        **model_row(model),
        "website": None,
        "visibility": "PUBLIC",
        "inferenceEnabled": bool(model.path),
        "instruct": model.has_chat_template,
    }


def _set(model: ModelRecord, saes: list[SaeRecord]) -> Row:
    """The row of a set with those of its sources. What its files said is of the first one's."""
    saes = sorted(saes, key=lambda sae: (sae.layer, sae.id))
    rows = [served(model, sae) for sae in saes]
    sources = [
        {**row["source"], "hasDashboards": sae.run_id is not None}
        for row, sae in zip(rows, saes, strict=True)
    ]
    return {**rows[0]["sourceset"], "sources": sources}


def _models(shelf: Shelf) -> list[ModelRecord]:
    return pages.all_of(lambda cursor: read.models(shelf, pages.MAX_LIMIT, cursor))
