"""The text page: a text of somebody's own, and what fires on each of its tokens."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from app.api.disconnect import unless_disconnected
from app.api.limits import check_text
from app.api.state import Services, Use
from app.contract.ids import Id, is_neuron_source
from app.errors import Forbidden, Problem
from app.store import read
from app.store.engine import Shelf
from app.store.pages import all_of
from app.store.records import IMPORTED, SaeRecord
from app.web.fired import Read, read_text
from app.web.page import page
from app.web.tokens import level, pieces_of

router = APIRouter(include_in_schema=False)

MOST_SAES = 8
"""SAEs that one page reads with."""
MOST_CHARS = 4_000
"""Characters of a text: its page has an address that holds all of it."""


def _as_typed(text: object) -> object:
    """Forms send the ends of lines as two characters."""
    return text.replace("\r\n", "\n") if isinstance(text, str) else text


class TextQuery(BaseModel):
    """What the page shows; all of it can be shared as its address."""

    model_config = ConfigDict(extra="forbid")

    model: Id | None = None
    sae: list[Id] = Field(default=[], max_length=MOST_SAES)
    text: Annotated[str, BeforeValidator(_as_typed)] = Field(default="", max_length=MOST_CHARS)
    token: int | None = Field(default=None, ge=0)


@router.get("/text")
async def text_page(
    request: Request, services: Use, query: Annotated[TextQuery, Query()]
) -> Response:
    """A form, and for a text what fires on it."""
    choices = await asyncio.to_thread(_ready, services)
    model = query.model or next(iter(choices), None)
    ready = choices.get(model or "", [])
    chosen = query.sae or [one.id for one in ready if not is_neuron_source(one.id)][:MOST_SAES]
    found, problem = None, None
    if query.text and model and chosen:
        _check_asker(request)
        work = _read(services, model, chosen, query)
        found, problem = await unless_disconnected(request, work)
    return await asyncio.to_thread(
        page,
        services,
        request,
        "text.html",
        models=list(choices),
        model=model,
        ready=ready,
        chosen=chosen,
        query=query,
        found=found,
        problem=problem,
        longest=MOST_CHARS,
        level=level,
        asked=[("model", model), *(("sae", one) for one in chosen), ("text", query.text)],
        pieces_of=pieces_of,
    )


def _ready(services: Services) -> dict[str, list[SaeRecord]]:
    """SAEs that have evidence and can read texts, by model, where there are any."""
    shelf = services.shelf
    found = {
        model.id: [
            sae
            for sae in all_of(lambda cursor, id=model.id: read.saes(shelf, id, cursor=cursor))
            if sae.status == "ready" and sae.architecture != IMPORTED
        ]
        for model in all_of(lambda cursor: read.models(shelf, cursor=cursor))
    }
    return {model: saes for model, saes in found.items() if saes}


def _check_asker(request: Request) -> None:
    """Refuse other sites' pages that ask for it as for an image, again and again: it costs a forward.
    Their links are followed."""
    sent = request.headers
    foreign = sent.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign and sent.get("sec-fetch-dest") != "document":
        raise Forbidden("Pages of other sites may link to a text, not load it.")


async def _read(
    services: Services, model: str, saes: list[str], query: TextQuery
) -> tuple[Read | None, str | None]:
    """What fires, or why that cannot be told: the form stays, so that it can be mended."""
    try:
        check_text(services.settings, "text", query.text)
        skip_first = await asyncio.to_thread(_begins_with_bos, services.shelf, model, saes)
        found = await read_text(services, model, saes, query.text, query.token, skip_first)
    except Problem as problem:
        return None, problem.detail
    if query.token is not None and query.token >= len(found.tokens):
        return None, f"token is {query.token}; the text has {len(found.tokens)} tokens."
    return found, None


def _begins_with_bos(shelf: Shelf, model: str, saes: list[str]) -> bool:
    """Whether BOS is put in front, as in the SAEs' evidence: neurons go by the SAEs beside them."""
    trained = [sae for sae in saes if not is_neuron_source(sae)]
    return read.begins_with_bos(shelf, model, (trained or saes)[0])
