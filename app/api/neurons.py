"""Neurons of a layer, split into the features that they are made of: list, one."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.conditional import LOOKUP, tagged, tagged_body
from app.api.features import body_of
from app.api.neuron_shapes import Neuron, NeuronList
from app.api.params import ModelId, PageQuery
from app.api.problems import documented
from app.api.state import Use
from app.contract.ids import INDEX_MAX, Id
from app.store import neurons, read
from app.store.neurons import Neuron as StoredNeuron
from app.store.records import Vocabulary
from app.store.split_records import Part

router = APIRouter(tags=["neurons"])

_SAE: Any = Field(
    default=None,
    description="An SAE on the layer's `mlp.hook_post`; when absent the one that leaves the least "
    "variance unexplained (the median over the layer's neurons).",
)
_LAYER_MAX = 10_000

Layer = Annotated[
    int,
    Path(
        ge=0,
        le=_LAYER_MAX,
        description="Layer of the model, from 0.",
        openapi_examples={"bundled": {"value": 2}},
    ),
]
NeuronIndex = Annotated[
    int,
    Path(
        ge=0,
        le=INDEX_MAX,
        description="Index of the neuron in its layer, from 0.",
        openapi_examples={"bundled": {"value": 251}},
    ),
]


class SplitQuery(BaseModel):
    """By which SAE."""

    model_config = ConfigDict(extra="forbid")

    sae: Id | None = _SAE


class NeuronQuery(PageQuery):
    """Which neurons, in which order."""

    layer: int | None = Field(
        default=None,
        ge=0,
        le=_LAYER_MAX,
        description="When absent the first layer whose neurons are split.",
    )
    sae: Id | None = _SAE
    sort: neurons.NeuronSort = Field(default="index", description="What the list is ordered by.")
    order: read.Order = Field(default="asc", description="`desc` is the exact reverse of `asc`.")


@router.get(
    "/v1/models/{model}/neurons",
    summary="List a layer's neurons",
    response_model=NeuronList,
    responses=LOOKUP | documented(404, 410, 422, 503),
)
def list_neurons(
    request: Request, services: Use, model: ModelId, query: Annotated[NeuronQuery, Query()]
) -> Response:
    """Neurons of one layer in pages. `sort=polysemanticity` with `order=desc` begins with those that
    do the most things at once.

    A cursor belongs to one list of one run, of the neurons and of the SAE; when either was computed
    anew, it is answered with 410.
    """
    wanted = query.model_dump(exclude={"layer", "sae"})
    found = neurons.neurons(services.shelf, model, query.layer, query.sae, **wanted)
    body = {
        "layer": found.layer,
        "sae": found.sae,
        "items": found.page.items,
        "next_cursor": found.page.next_cursor,
    }
    return tagged_body(request, orjson.dumps(body))


@router.get(
    "/v1/models/{model}/neurons/{layer}/{index}",
    summary="Take a neuron apart",
    response_model=Neuron,
    responses=LOOKUP | documented(404, 410, 422, 503),
)
def get_neuron(
    request: Request,
    services: Use,
    model: ModelId,
    layer: Layer,
    index: NeuronIndex,
    query: Annotated[SplitQuery, Query()],
) -> Response:
    """A neuron's evidence, as of any feature, and `split`: its activation at the peaks of its own
    examples as a sum over the features of an SAE, and its examples grouped by the feature that
    explains them.

    The answer is 404, with what to do, until the neurons and an SAE on their hook point have been
    precomputed on one corpus.
    """
    found = neurons.neuron(services.shelf, model, layer, index, query.sae)
    vocabulary = read.vocabulary(services.shelf, model)
    identity = f"{found.evidence.run_id} {found.sae_run_id} {found.evidence.calibration}"
    return tagged(request, identity, lambda: json_of(found, vocabulary))


def json_of(neuron: StoredNeuron, vocabulary: Vocabulary) -> bytes:
    """What is answered about a neuron."""
    body = body_of(neuron.evidence, vocabulary)
    shown = [
        {"band": band["name"], **example} for band in body["bands"] for example in band["examples"]
    ]
    whole = {"layer": neuron.layer, **body, "split": _split(neuron, shown)}
    return orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY)


def _split(neuron: StoredNeuron, shown: list[dict[str, Any]]) -> dict[str, Any]:
    """The split, its examples out of those that are shown, by window."""
    split = neuron.split
    return {
        "sae": neuron.sae,
        "polysemanticity": split.polysemanticity,
        "unexplained_variance": split.unexplained_variance,
        "features": [_part(neuron, part) for part in split.features],
        "others": {"count": split.n_others, "share": split.others},
        "bias": split.bias,
        "rest": split.rest,
        "groups": [
            {
                "feature": group.part and _part(neuron, group.part),
                "examples": [
                    shown[one.window] | {"contribution": one.contribution} for one in group.examples
                ],
            }
            for group in split.groups
        ],
    }


def _part(neuron: StoredNeuron, part: Part) -> dict[str, Any]:
    return {
        "index": part.feature,
        "label": neuron.labels[part.feature],
        "share": part.share,
        "weight": part.weight,
    }
