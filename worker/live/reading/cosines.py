"""POST /cosines: features that write in the direction of another one, or of a vector."""

from functools import partial

import numpy as np
import orjson
import torch
from jaxtyping import Float

from app.contract.reading import CosinesRequest
from app.errors import Invalid
from worker.live.desk import Desk
from worker.live.resident import Held
from worker.live.search.searches import all_cosines
from worker.live.search.vector import unit
from worker.live.steering import check_feature
from worker.models import LanguageModel
from worker.saes import Dictionary


async def cosines(desk: Desk, request: CosinesRequest) -> bytes:
    """JSON of a `CosinesAnswer`."""
    _check(request)
    names = dict.fromkeys(one for one in (request.sae, request.of) if one is not None)
    held = await desk.hold(request.model, [*names])
    dictionary = held.dictionaries[request.sae]
    vector = request.vector
    if vector is None:
        vector = await desk.on_model(partial(_direction, request, held))
    wanted = await desk.at_desk(partial(_wanted, vector, dictionary, held.resident.model))
    found = await all_cosines(desk, dictionary, "decoder", wanted)
    return await desk.aside(partial(_nearest, found, request.limit))


def _check(request: CosinesRequest) -> None:
    given = [request.of is not None, request.feature is not None, request.vector is not None]
    if given not in ([True, True, False], [False, False, True]):
        raise Invalid("Give either of and feature, or vector.")
    if request.limit < 1:
        raise Invalid(f"limit is {request.limit}; it must be at least 1.")


def _direction(request: CosinesRequest, held: Held) -> list[float]:
    dictionary, feature = held.dictionaries[request.of or ""], request.feature
    assert feature is not None, "checked above"
    check_feature("feature", dictionary, feature)
    index = torch.tensor([feature], device=dictionary.scale.device)
    row = dictionary.directions(index)[0].tolist()
    if not any(row):
        raise Invalid(f"Feature {feature} of {dictionary.id} has no direction: its weights are 0.")
    return row


def _wanted(
    vector: list[float], dictionary: Dictionary, model: LanguageModel
) -> Float[np.ndarray, " w"]:
    """At length 1. Invalid where it does not fit."""
    width = model.site(dictionary.hook_out).width
    if len(vector) != width:
        raise Invalid(
            f"vector has {len(vector)} numbers; features of {dictionary.id} write {width}, at "
            f"{dictionary.hook_out}."
        )
    return unit(vector)


def _nearest(cosine: Float[np.ndarray, " f"], limit: int) -> bytes:
    """The most alike, ties by index."""
    limit = min(limit, len(cosine))
    least = np.partition(cosine, -limit)[-limit]
    near = np.flatnonzero(cosine >= least)
    best = near[np.argsort(-cosine[near], kind="stable")[:limit]]
    features = [{"feature": one, "cosine": cosine[one]} for one in best.tolist()]
    return orjson.dumps({"features": features}, option=orjson.OPT_SERIALIZE_NUMPY)
