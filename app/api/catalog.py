"""The catalog of pretrained SAEs: one list, searched by words and by model."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from app.api.conditional import LOOKUP, tagged_body
from app.api.params import PageQuery
from app.api.problems import documented
from app.api.state import Use
from app.store import catalog

router = APIRouter(tags=["saes"])
_TEXT = r"^[^\x00]+$"
"""Postgres takes no text with a NUL."""


class CatalogQuery(PageQuery):
    """Which entries."""

    q: str | None = Field(
        default=None,
        max_length=200,
        pattern=_TEXT,
        description="Names with spaces between them: finds entries that have all of their words in "
        "release, SAE id, model or repository. The end of a name may be missing, but for numbers.",
    )
    model: str | None = Field(
        default=None,
        max_length=200,
        pattern=_TEXT,
        description="Only SAEs of this model, as the catalog spells it.",
    )


class CatalogEntry(BaseModel):
    """A pretrained SAE that somebody has published. Its numbers are its authors'; null where
    unknown."""

    path: str = Field(description="What a `load` job takes as its `path`.")
    release: str
    sae_id: str = Field(description="Unique in its release.")
    model: str = Field(description="The language model, as SAELens names it.")
    hook_name: str | None = Field(description="Where it reads, a TransformerLens name.")
    repo: str = Field(description="Repository on the Hugging Face hub.")
    format: str = Field(description="How its files are laid out; SAELens converts them all.")
    neuronpedia_id: str | None
    l0: float | None = Field(description="Active features a token.")
    explained_variance: float | None = Field(
        description="Share of the variance at the hook that is reconstructed; below 0 where the "
        "reconstruction is worse than the mean."
    )


class CatalogList(BaseModel):
    """A page of the catalog."""

    items: list[CatalogEntry]
    next_cursor: str | None


@router.get(
    "/v1/catalog",
    summary="Search the pretrained SAEs that can be loaded",
    response_model=CatalogList,
    responses=LOOKUP | documented(422, 503),
)
def list_catalog(
    request: Request, services: Use, query: Annotated[CatalogQuery, Query()]
) -> Response:
    """The pretrained SAEs that SAELens can fetch from the Hugging Face hub, by release.

    Give an entry's `path` to a `load` job (the jobs worker needs `SAESCOPE_HUB=true` for it). The
    list comes with SAELens and needs no network.
    """
    page = catalog.entries(services.shelf, query.q, query.model, query.limit, query.cursor)
    items = [CatalogEntry.model_validate({**asdict(e), "path": e.path}) for e in page.items]
    body = CatalogList(items=items, next_cursor=page.next_cursor)
    return tagged_body(request, body.model_dump_json().encode())
