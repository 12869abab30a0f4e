"""Registered models: list, one, delete."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.conditional import LOOKUP, tagged_body
from app.api.params import DoomedModelId, ModelId, Page
from app.api.problems import documented
from app.api.shapes import Model, ModelDetail, ModelList
from app.api.state import Use
from app.store import read, write
from app.store.records import ModelRecord

router = APIRouter(tags=["models"])
OWNER = "saescope"


@router.get(
    "/v1/models",
    summary="List the models",
    response_model=ModelList,
    responses=LOOKUP | documented(422, 503),
)
def list_models(request: Request, services: Use, page: Page) -> Response:
    """The language models that are registered here, by id.

    The body is an OpenAI model list as well, so that an OpenAI client finds its way.
    """
    found = read.models(services.shelf, page.limit, page.cursor)
    models = [Model.model_validate(_fields(record)) for record in found.items]
    body = ModelList(data=models, items=models, next_cursor=found.next_cursor)
    return tagged_body(request, body.model_dump_json().encode())


@router.get(
    "/v1/models/{model}",
    summary="Look a model up",
    response_model=ModelDetail,
    responses=LOOKUP | documented(404, 422, 503),
)
def get_model(request: Request, services: Use, model: ModelId) -> Response:
    """One model: its sizes, its context, and its hook points with their widths."""
    record = read.model(services.shelf, model)
    body = ModelDetail.model_validate(_fields(record))
    return tagged_body(request, body.model_dump_json().encode())


@router.delete(
    "/v1/models/{model}",
    summary="Delete a model",
    status_code=204,
    response_class=Response,
    responses=documented(403, 404, 422, 503),
)
def delete_model(services: Use, model: DoomedModelId) -> None:
    """Take a model, its SAEs and their evidence off the shelf, at once.

    `saescope gc` frees the disk.
    """
    write.delete_model(services.shelf, model)


def _fields(record: ModelRecord) -> dict[str, Any]:
    created = record.created_at
    return {
        **asdict(record),
        "created": int(created.timestamp()) if created else 0,
        "owned_by": OWNER,
    }
