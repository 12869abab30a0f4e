"""Path and query parameters that several routes share."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import ID_PATTERN, INDEX_MAX
from app.store.pages import MAX_LIMIT


def _example(value: object) -> dict[str, Any]:
    """An example in the form that Swagger UI fills in."""
    return {"bundled": {"value": value}}


_ID: dict[str, Any] = {"pattern": ID_PATTERN, "max_length": 128}
_MODEL: dict[str, Any] = {**_ID, "description": "Id of a registered model."}
_SAE: dict[str, Any] = {
    **_ID,
    "description": "Id of one of the model's SAEs: `{layer}-{set}`, or `{layer}-mlp` for the "
    "layer's neurons.",
}

ModelId = Annotated[str, Path(**_MODEL, openapi_examples=_example(BUNDLED_MODEL))]
SaeId = Annotated[str, Path(**_SAE, openapi_examples=_example(BUNDLED_SAES[0]))]
DoomedModelId = Annotated[str, Path(**_MODEL)]
"""Without an example: a click on `Execute` shall not delete the bundled model."""
DoomedSaeId = Annotated[str, Path(**_SAE)]
FeatureIndex = Annotated[
    int,
    Path(
        ge=0,
        le=INDEX_MAX,
        description="Index of the feature in the SAE, from 0.",
        openapi_examples=_example(12),
    ),
]
JobId = Annotated[str, Path(**_ID, description="Id that POST /v1/jobs answered with.")]


class PageQuery(BaseModel):
    """Which page of a list. A misspelled parameter is refused: it would answer another question."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="Items on a page.")
    cursor: str | None = Field(
        default=None,
        max_length=1_000,
        description="`next_cursor` of the page before; absent for the first.",
    )


Page = Annotated[PageQuery, Query()]
