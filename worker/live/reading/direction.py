"""POST /direction: what a feature reads, or writes."""

import orjson
import torch

from app.contract.reading import DirectionRequest
from app.errors import Invalid
from worker.live.desk import Desk
from worker.live.steering import check_feature
from worker.saes import Dictionary


async def direction(desk: Desk, request: DirectionRequest) -> bytes:
    """JSON of a `DirectionAnswer`."""
    held = await desk.hold(request.model, [request.sae])
    (dictionary,) = held.dictionaries.values()
    check_feature("feature", dictionary, request.feature)
    vector = await desk.on_model(lambda: _direction(dictionary, request))
    hook = dictionary.hook_name if request.side == "encoder" else dictionary.hook_out
    return await desk.at_desk(lambda: orjson.dumps({"hook": hook, "vector": vector}))


@torch.inference_mode()
def _direction(dictionary: Dictionary, request: DirectionRequest) -> list[float]:
    if request.side == "encoder":
        column = dictionary.reads(request.feature)
        if column is None:
            raise Invalid(
                f"{dictionary.id} has no encoder directions: matching pursuit takes features one "
                "after another, each from what those before it left over; ask for its decoder side."
            )
        return column.tolist()
    index = torch.tensor([request.feature], device=dictionary.scale.device)
    return dictionary.directions(index)[0].tolist()
