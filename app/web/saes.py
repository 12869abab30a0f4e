"""An SAE's page: its features as a table that can be searched, sorted and narrowed down, how good it is,
and where it came from."""

from dataclasses import fields
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from pydantic import model_validator
from starlette.responses import Response

from app.api.features import FeatureQuery
from app.api.params import ModelId, SaeId
from app.api.saes import described
from app.api.state import Use
from app.errors import Invalid
from app.store import activity, read
from app.store.engine import Shelf
from app.store.records import SaeRecord
from app.web.cloud import Cloud, cloud
from app.web.page import page

router = APIRouter(include_in_schema=False)

RANGES = [field.name for field in fields(read.Ranges)]
KEPT = 64
"""Pictures that a process keeps."""
_clouds: dict[str, Cloud | None] = {}
"""By run, whose id is never used again."""


class TableQuery(FeatureQuery):
    """What the table shows."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, value: Any) -> Any:
        """A form sends fields that nobody filled in as empty text."""
        if isinstance(value, dict):
            return {name: one for name, one in value.items() if one != ""}
        return value


@router.get("/models/{model}/saes/{sae}")
def sae_page(
    request: Request,
    services: Use,
    model: ModelId,
    sae: SaeId,
    query: Annotated[TableQuery, Query()],
) -> Response:
    """An SAE and its features."""
    record = read.sae(services.shelf, model, sae)
    wanted = query.model_dump()
    shown = {name: value for name, value in wanted.items() if value is not None}
    ranges = read.Ranges(**{name: wanted.pop(name) for name in RANGES})
    found, problem = None, None
    try:
        if record.run_id:
            found = read.features(services.shelf, model, sae, ranges=ranges, **wanted)
    except Invalid as invalid:
        problem = invalid.detail
    return page(
        services,
        request,
        "sae.html",
        model=model,
        sae=described(record),
        query=query,
        found=found,
        problem=problem,
        is_whole=set(shown) <= {"sort", "order", "limit"},
        cloud=_cloud(services.shelf, record),
        path=f"/models/{model}/saes/{sae}",
        asked=lambda **change: _address(shown, change),
    )


def _address(shown: dict[str, Any], change: dict[str, Any]) -> str:
    """The query of the same table but for a change, from its first page."""
    kept = {name: value for name, value in shown.items() if name != "cursor"} | change
    return "?" + urlencode({name: value for name, value in kept.items() if value is not None})


def _cloud(shelf: Shelf, record: SaeRecord) -> Cloud | None:
    """Made once for each run."""
    if not record.run_id:
        return None
    if record.run_id not in _clouds:
        for oldest in list(_clouds)[: 1 - KEPT]:
            _clouds.pop(oldest, None)
        _clouds[record.run_id] = cloud(activity.served(shelf, record.model_id, record.id))
    return _clouds[record.run_id]
