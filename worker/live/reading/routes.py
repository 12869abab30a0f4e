"""Paths of `app.contract.reading`: the request, and who answers it."""

from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from app.contract import reading as wire
from worker.live.reading.active import active
from worker.live.reading.conversation import conversation
from worker.live.reading.cosines import cosines
from worker.live.reading.direction import direction
from worker.live.reading.rank import rank
from worker.live.reading.states import states
from worker.live.reading.values import values

READINGS: dict[str, tuple[type[BaseModel], Callable[..., Coroutine[Any, Any, bytes]]]] = {
    "/values": (wire.ValuesRequest, values),
    "/active": (wire.ActiveRequest, active),
    "/rank": (wire.RankRequest, rank),
    "/states": (wire.StatesRequest, states),
    "/direction": (wire.DirectionRequest, direction),
    "/cosines": (wire.CosinesRequest, cosines),
    "/render": (wire.RenderRequest, conversation),
}
