"""A model's SAEs: list, one, delete."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.conditional import LOOKUP, tagged_body
from app.api.params import DoomedModelId, DoomedSaeId, ModelId, Page, SaeId
from app.api.problems import documented
from app.api.shapes import Sae, SaeDetail, SaeList
from app.api.state import Use
from app.store import read, write
from app.store.records import SaeRecord

router = APIRouter(tags=["saes"])


@router.get(
    "/v1/models/{model}/saes",
    summary="List a model's SAEs",
    response_model=SaeList,
    responses=LOOKUP | documented(404, 422, 503),
)
def list_saes(request: Request, services: Use, model: ModelId, page: Page) -> Response:
    """The sparse autoencoders of a model, by id, with their quality and where they came from.

    A layer's neurons appear here too when they have evidence, as `{layer}-mlp`.
    """
    found = read.saes(services.shelf, model, page.limit, page.cursor)
    items = list(map(described, found.items))
    body = SaeList(items=items, next_cursor=found.next_cursor)
    return tagged_body(request, body.model_dump_json().encode())


@router.get(
    "/v1/models/{model}/saes/{sae}",
    summary="Look an SAE up",
    response_model=SaeDetail,
    responses=LOOKUP | documented(404, 422, 503),
)
def get_sae(request: Request, services: Use, model: ModelId, sae: SaeId) -> Response:
    """One SAE: where it reads, how large and how good it is, on which text that was measured, whether
    it can steer, and what its evidence was computed from. Of SAEs of the bundled model also how well
    the best feature tells each true concept of the text, against neurons, random directions and the
    token alone."""
    record = read.sae(services.shelf, model, sae)
    body = {**_columns(record), "concepts": record.evaluation.get("concepts", [])}
    return tagged_body(request, SaeDetail.model_validate(body).model_dump_json().encode())


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


def described(record: SaeRecord) -> Sae:
    """What is answered about an SAE in a list."""
    return Sae.model_validate(_columns(record))


def _columns(record: SaeRecord) -> dict[str, Any]:
    return {"model": record.model_id, **asdict(record)}
