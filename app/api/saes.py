"""A model's SAEs: list, one, delete."""

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from app.api.conditional import tagged_body
from app.api.params import DoomedModelId, DoomedSaeId, ModelId, Page, SaeId
from app.api.problems import documented
from app.api.shapes import Sae, SaeList
from app.api.state import Use
from app.store import read, write
from app.store.records import SaeRecord

router = APIRouter(tags=["saes"])


@router.get(
    "/v1/models/{model}/saes",
    summary="List a model's SAEs",
    response_model=SaeList,
    responses=documented(400, 404, 422, 503),
)
def list_saes(request: Request, services: Use, model: ModelId, page: Page) -> Response:
    """The sparse autoencoders of a model, by id, with their quality and where they came from.

    A layer's neurons appear here too when they have evidence, as `{layer}-mlp`.
    """
    found = read.saes(services.shelf, model, page.limit, page.cursor)
    body = SaeList(items=[_view(record) for record in found.items], next_cursor=found.next_cursor)
    return tagged_body(request, body.model_dump_json().encode())


@router.get(
    "/v1/models/{model}/saes/{sae}",
    summary="Look an SAE up",
    response_model=Sae,
    responses=documented(404, 422, 503),
)
def get_sae(request: Request, services: Use, model: ModelId, sae: SaeId) -> Response:
    """One SAE: where it reads, how large and how good it is, whether it can steer, and what its
    evidence was computed from."""
    record = read.sae(services.shelf, model, sae)
    return tagged_body(request, _view(record).model_dump_json().encode())


@router.delete(
    "/v1/models/{model}/saes/{sae}",
    summary="Delete an SAE",
    status_code=204,
    response_class=Response,
    responses=documented(403, 404, 422, 503),
)
def delete_sae(services: Use, model: DoomedModelId, sae: DoomedSaeId) -> None:
    """Take an SAE and its evidence off the shelf, at once.

    `saescope gc` frees the disk.
    """
    write.delete_sae(services.shelf, model, sae)


def _view(record: SaeRecord) -> Sae:
    return Sae.model_validate({"model": record.model_id, **asdict(record)})
