"""Alive, and ready part by part."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DBAPIError

from app.api.problems import documented
from app.api.state import Services, Use
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SOURCES
from app.errors import NotFound, Problem, Unavailable
from app.store import read
from app.store.engine import Shelf

logger = logging.getLogger(__name__)
router = APIRouter(tags=["service"])
PATIENCE_S = 5.0


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    status: Literal["ok"] = "ok"


class Part(BaseModel):
    """One part of the service."""

    ready: bool
    detail: str


class Readiness(BaseModel):
    """Every part of the service is ready."""

    database: Part
    live: Part
    evidence: Part


@router.get("/healthz", summary="Is the API alive?", responses=documented())
async def get_health() -> Health:
    """200 as soon as the API is up, whatever the state of the other parts."""
    return Health()


@router.get("/readyz", summary="Is the service ready?", responses=documented(503))
async def get_readiness(services: Use) -> Readiness:
    """200 when the database answers, the live worker answers, and the bundled SAEs have their
    evidence. 503 until then, with every part and what it waits for."""
    database, live, evidence = await asyncio.gather(
        _part(asyncio.to_thread(_database, services.shelf)),
        _part(_live(services)),
        _part(asyncio.to_thread(_evidence, services.shelf)),
    )
    readiness = Readiness(database=database, live=live, evidence=evidence)
    waiting = [f"{name}: {part.detail}" for name, part in readiness if not part.ready]
    if waiting:
        raise Unavailable(" ".join(waiting), parts=readiness.model_dump())
    return readiness


async def _part(check: Awaitable[str]) -> Part:
    """`check` answers with a sentence when the part is ready, and raises when it is not."""
    try:
        return Part(ready=True, detail=await asyncio.wait_for(check, PATIENCE_S))
    except TimeoutError:
        return Part(ready=False, detail=f"No answer within {PATIENCE_S:g} seconds.")
    except Problem as problem:
        return Part(ready=False, detail=problem.detail)
    except DBAPIError as error:
        # The driver's own words are for the log: they may hold the address of the database.
        logger.warning("the shelf does not answer: %s", error)
        return Part(ready=False, detail="The shelf cannot be read; the server's log says why.")


def _database(shelf: Shelf) -> str:
    if not read.models(shelf, limit=1).items:
        raise Unavailable(
            "No model is registered yet. `saescope up` registers the bundled one, `saescope load` "
            "one of your own."
        )
    return "The shelf answers."


async def _live(services: Services) -> str:
    health = await services.live.health()
    return f"The live worker answers, on {health.device}."


def _evidence(shelf: Shelf) -> str:
    try:
        none = not read.saes(shelf, BUNDLED_MODEL, limit=1).items
    except NotFound:
        return "The bundled model is not registered; nothing to wait for."
    if none:
        raise Unavailable(f"No SAE of {BUNDLED_MODEL} is registered yet.")
    waiting = [sae_id for sae_id in BUNDLED_SOURCES if _waits(shelf, sae_id)]
    if waiting:
        raise Unavailable(f"The evidence of {', '.join(waiting)} is not committed yet.")
    return "The evidence of the bundled SAEs is committed."


def _waits(shelf: Shelf, sae_id: str) -> bool:
    """Whether a bundled SAE is registered and has no evidence yet."""
    try:
        return read.sae(shelf, BUNDLED_MODEL, sae_id).status != "ready"
    except NotFound:
        return False
