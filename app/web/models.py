"""The first page, with all models, and a model's page, with its SAEs by layer."""

from itertools import groupby

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.params import ModelId
from app.api.saes import described
from app.api.shapes import Sae
from app.api.state import Use
from app.store import read
from app.store.engine import Shelf
from app.store.pages import all_of
from app.web.page import page

router = APIRouter(include_in_schema=False)
MOST = 100
"""Rows that are read at once."""
SHOWN = 12
"""SAEs of each model on the first page."""


@router.get("/")
def first_page(request: Request, services: Use) -> Response:
    """What is here, and where to begin."""
    models = all_of(lambda cursor: read.models(services.shelf, MOST, cursor))
    saes = {model.id: _saes(services.shelf, model.id) for model in models}
    return page(services, request, "first.html", models=models, saes=saes, shown=SHOWN)


@router.get("/models/{model}")
def model_page(request: Request, services: Use, model: ModelId) -> Response:
    """A model and what its activations were taken apart by."""
    record = read.model(services.shelf, model)
    by_layer = sorted(_saes(services.shelf, model), key=lambda sae: sae.layer)
    layers = [(layer, list(some)) for layer, some in groupby(by_layer, lambda sae: sae.layer)]
    return page(services, request, "model.html", model=record, layers=layers)


def _saes(shelf: Shelf, model: str) -> list[Sae]:
    return [described(sae) for sae in all_of(lambda cursor: read.saes(shelf, model, MOST, cursor))]
