"""How requests and answers are written: fields in camelCase, taken in snake_case as well; strict types;
fields that nobody knows are left alone, as Neuronpedia's server does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import orjson
from fastapi import Request, Response
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic.alias_generators import to_camel

from app.api.disconnect import unless_disconnected
from app.contract.body import whole
from app.contract.ids import ID_PATTERN, INDEX_MAX

PREFIX = "/inference"
MOST_PROMPTS = 4
"""Of a batch."""
MOST_WIDE = 2**17
"""Numbers of a vector; no hook point is as wide."""

ModelName = Annotated[StrictStr, Field(max_length=256, description="Id of a registered model.")]
Source = Annotated[
    StrictStr,
    Field(
        pattern=ID_PATTERN, min_length=1, max_length=128, description="Id of an SAE, or of neurons."
    ),
]
WHOLE = BeforeValidator(whole)
"""Of an integer: 5.0 is one too, as JSON Schema has it."""
Index = Annotated[StrictInt, Field(ge=0, le=INDEX_MAX, description="Index of the feature."), WHOLE]
Vector = Annotated[list[StrictFloat], Field(min_length=1, max_length=MOST_WIDE)]
Prompts = Annotated[
    list[StrictStr],
    # Checked where it is said in words of Neuronpedia's.
    Field(
        description=f"1 to {MOST_PROMPTS} texts.",
        json_schema_extra={"minItems": 1, "maxItems": MOST_PROMPTS},
    ),
]


class Camel(BaseModel):
    """What is sent or answered."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


async def reshaped(
    request: Request, ask: Coroutine[Any, Any, bytes], shape: Callable[[Any], Any]
) -> Response:
    """The live worker's answer in another shape. Made on a thread: it may be large."""
    told = await unless_disconnected(request, ask)
    return await as_json(lambda: shape(orjson.loads(told)))


async def as_json(made: Callable[[], Any]) -> Response:
    """The answer with what is made on a thread."""
    body = await asyncio.to_thread(lambda: orjson.dumps(made()))
    return Response(body, media_type="application/json")
