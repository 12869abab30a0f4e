"""What fires on new text: one feature or vector, or all of an SAE."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import orjson
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field, StrictBool, model_validator

from app.api.disconnect import unless_disconnected
from app.api.state import Use
from app.compat.neuronpedia.answer import json
from app.compat.neuronpedia.errors import ASKS
from app.compat.neuronpedia.names import Asked, SourceName
from app.compat.neuronpedia.targets import vector_of
from app.compat.neuronpedia.texts import Given, Texts, check_texts
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import Id
from app.contract.reading import ActiveRequest, ValuesRequest
from app.errors import Invalid
from app.rows.page import Row

router = APIRouter(tags=["neuronpedia"])

DECIMALS = 3
"""Of the activations of a whole source, as Neuronpedia rounds them."""
_EXAMPLE = {"modelId": BUNDLED_MODEL, "source": BUNDLED_SAES[0], "index": "266"}


class FeatureTested(Asked):
    """A feature and texts; `neuron` is taken for `feature`."""

    feature: SourceName | None = None
    neuron: SourceName | None = None
    customText: Texts
    ignoreBos: StrictBool | None = Field(
        default=False,
        description="Leave a vector's value at BOS out. Of features it is always left out.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.feature or self.neuron) is None:
            raise ValueError("give the feature: {modelId, source, index}")
        return self


class SourceTested(Asked):
    """An SAE and texts."""

    modelId: Id
    source: Id
    customText: Texts


class NpTested(BaseModel):
    """How active a feature is at every token of a text."""

    tokens: list[str]
    values: list[float]
    maxValue: float
    maxValueTokenIndex: int
    minValue: float
    modelId: str
    layer: str
    index: str
    creatorId: str
    createdAt: datetime
    dataIndex: None
    dataSource: str


class NpActiveFeatures(BaseModel):
    """What is active on a text."""

    tokens: list[str] = Field(description="BOS included.")
    activeFeatures: dict[str, list[tuple[int, float]]] = Field(
        description="By feature, `[place of the token, activation]`; nothing of BOS."
    )


class NpActiveResults(BaseModel):
    """A result for each text."""

    results: list[NpActiveFeatures]


@router.post(
    "/api/activation/new",
    summary="Test a feature on text, as Neuronpedia's clients ask",
    response_model=NpTested | list[NpTested],
    responses=ASKS,
)
async def np_test_feature(
    request: Request,
    services: Use,
    body: Annotated[
        FeatureTested,
        Body(
            openapi_examples={
                "text": {
                    "summary": "A feature on a text",
                    "value": {"feature": _EXAMPLE, "customText": "The old sailor was happy."},
                },
                "texts": {
                    "summary": "On two texts",
                    "value": {"feature": _EXAMPLE, "customText": ["She hid.", "Two eggs."]},
                },
            }
        ),
    ],
) -> Response:
    """The activation of one feature, or the dot product with one vector, at every token of a text.

    Texts in a list are answered with a list.
    """
    given: Given = body.customText
    check_texts(services.settings, "customText", given)
    name = (body.neuron or body.feature or SourceName.model_construct()).name
    vector = await asyncio.to_thread(vector_of, services.shelf, name)
    wanted = ValuesRequest(model=name.model, texts=given.texts)
    if vector:
        wanted.hook, wanted.vector = vector.hook_name, vector.values.tolist()
    else:
        wanted.sae, wanted.feature = name.sae, name.feature
    told = orjson.loads(await unless_disconnected(request, services.live.values(wanted)))
    of = {"modelId": name.model, "layer": name.sae, "index": str(name.feature)}
    skips = vector is None or bool(body.ignoreBos)
    rows = [_tested(result, of, skips) for result in told["results"]]
    return json(rows if given.as_list else rows[0])


def _tested(result: dict[str, Any], of: Row, skips_bos: bool) -> Row:
    start = int(skips_bos and result["begins_with_bos"])
    tokens, values = result["tokens"][start:], result["values"][start:]
    if not values:
        raise Invalid("customText has no tokens but BOS; give some text.")
    largest = max(values)
    return {
        "tokens": tokens,
        "values": values,
        "maxValue": largest,
        "maxValueTokenIndex": values.index(largest),
        "minValue": min(values),
        **of,
        "creatorId": "",
        "createdAt": datetime.now(UTC),
        "dataIndex": None,
        "dataSource": "saescope",
    }


@router.post(
    "/api/activation/source",
    summary="See all features that fire on text, as Neuronpedia's clients ask",
    response_model=NpActiveResults,
    responses=ASKS,
)
async def np_test_source(
    request: Request,
    services: Use,
    body: Annotated[
        SourceTested,
        Body(
            openapi_examples={
                "text": {
                    "summary": "All that fires on a text",
                    "value": {
                        "modelId": BUNDLED_MODEL,
                        "source": BUNDLED_SAES[0],
                        "customText": "She hid.",
                    },
                }
            }
        ),
    ],
) -> Response:
    """Every active feature of an SAE at every token of each text, rounded to three decimals."""
    given: Given = body.customText
    check_texts(services.settings, "customText", given)
    wanted = ActiveRequest(model=body.modelId, sae=body.source, texts=given.texts)
    told = await unless_disconnected(request, services.live.active(wanted))
    # On a thread: there may be millions of values.
    return await asyncio.to_thread(_active, told)


def _active(told: bytes) -> Response:
    results = orjson.loads(told)["results"]
    return json({"results": [_by_feature(result) for result in results]})


def _by_feature(result: dict[str, Any]) -> Row:
    found: dict[str, list[tuple[int, float]]] = {}
    start = int(result["begins_with_bos"])
    for place, top in enumerate(result["top"][start:], start):
        for one in top:
            entry = place, round(one["value"], DECIMALS)
            found.setdefault(str(one["feature"]), []).append(entry)
    return {"tokens": result["tokens"], "activeFeatures": found}
