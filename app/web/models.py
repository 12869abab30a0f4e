"""The first page, with all models, and a model's page, with its SAEs by layer."""

from itertools import groupby

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.params import ModelId
from app.api.saes import described
from app.api.state import Use
from app.store import read
from app.web.page import page

router = APIRouter(include_in_schema=False)
MOST = 100
"""Models, or SAEs of one, that a page shows."""


@router.get("/")
def first_page(request: Request, services: Use) -> Response:
    """What is here, and where to begin."""
    models = read.models(services.shelf, MOST).items
    saes = {
        model.id: [described(sae) for sae in read.saes(services.shelf, model.id, MOST).items]
        for model in models
    }
    return page(services, request, "first.html", models=models, saes=saes)


@router.get("/models/{model}")
def model_page(request: Request, services: Use, model: ModelId) -> Response:
    """A model and what its activations were taken apart by."""
    record = read.model(services.shelf, model)
    saes = read.saes(services.shelf, model, MOST)
    by_layer = sorted(map(described, saes.items), key=lambda sae: sae.layer)
    layers = [(layer, list(some)) for layer, some in groupby(by_layer, lambda sae: sae.layer)]
    return page(services, request, "model.html", model=record, layers=layers, more=saes.next_cursor)
