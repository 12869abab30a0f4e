"""POST /states: the states of every text's last token."""

from collections.abc import Iterator
from functools import partial

import orjson

from app.contract.reading import StatesRequest
from app.errors import Invalid
from app.settings import Settings
from worker.live.capture import CaptureJob
from worker.live.desk import Desk
from worker.live.kinds import LastState, Values
from worker.live.reading.texts import check_values, encoded
from worker.live.render import display
from worker.live.resident import Held, Resident


async def states(desk: Desk, request: StatesRequest) -> bytes:
    """JSON of a `StatesAnswer`."""
    work = partial(_prepare, request, settings=desk.settings)
    held, job = await desk.prepared(request.model, [], work)
    async with desk.captured(held, job) as found:
        return await desk.joined(_pieces(job, found, held.resident))


def _prepare(request: StatesRequest, held: Held, settings: Settings) -> CaptureJob:
    if not request.hooks:
        raise Invalid("hooks is empty; give at least one hook point.")
    hooks = list(dict.fromkeys(request.hooks))
    width = sum(held.resident.model.site(hook).width for hook in hooks)
    texts = encoded(request, held, settings)
    check_values(len(texts) * width, f"{len(texts)} texts and {width} numbers for each", settings)
    return CaptureJob(texts, [LastState(hook) for hook in hooks])


def _pieces(job: CaptureJob, found: list[dict[str, Values]], resident: Resident) -> Iterator[bytes]:
    """A text at a time."""
    model = resident.model
    about = {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}
    yield orjson.dumps(about)[:-1] + b',"results":['
    for place, (ids, own) in enumerate(zip(job.texts, found, strict=True)):
        states = [{"hook": hook, "state": state} for hook, state in own.items()]
        told = {"ids": ids, "tokens": display(ids, resident.vocabulary), "states": states}
        yield (b"," if place else b"") + orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    yield b"]}"
