"""The first page, with all models, and a model's page, with its SAEs by layer."""

from itertools import groupby

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.params import ModelId
from app.api.saes import described
from app.api.state import Use
from app.store import read
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
    saes = {
        model.id: [described(sae) for sae in read.saes(services.shelf, model.id, SHOWN).items]
        for model in models
    }
    return page(services, request, "first.html", models=models, saes=saes, shown=SHOWN)


@router.get("/models/{model}")
def model_page(request: Request, services: Use, model: ModelId) -> Response:
    """A model and what its activations were taken apart by."""
    record = read.model(services.shelf, model)
    saes = all_of(lambda cursor: read.saes(services.shelf, model, MOST, cursor))
    by_layer = sorted(map(described, saes), key=lambda sae: sae.layer)
    layers = [(layer, list(some)) for layer, some in groupby(by_layer, lambda sae: sae.layer)]
    return page(services, request, "model.html", model=record, layers=layers)
