"""A neuron's page: what it fires on, split into the features of an SAE."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.neurons import Layer, NeuronIndex, SplitQuery, json_of
from app.api.params import ModelId
from app.api.state import Use
from app.store import neurons, read
from app.web.page import page
from app.web.tokens import strip

router = APIRouter(include_in_schema=False)


@router.get("/models/{model}/neurons/{layer}/{index}")
def neuron_page(
    request: Request,
    services: Use,
    model: ModelId,
    layer: Layer,
    index: NeuronIndex,
    query: Annotated[SplitQuery, Query()],
) -> Response:
    """Its examples in groups, each under the feature that explains them."""
    found = neurons.neuron(services.shelf, model, layer, index, query.sae)
    neuron = orjson.loads(json_of(found, read.vocabulary(services.shelf, model)))
    largest = neuron["max_activation"]
    groups = [
        (group["feature"], [strip(one, largest) for one in group["examples"]])
        for group in neuron["split"]["groups"]
    ]
    return page(
        services,
        request,
        "neuron.html",
        model=model,
        neuron=neuron,
        groups=groups,
        split=neuron["split"],
        path=f"/models/{model}/neurons/{layer}/{index}",
    )
