"""POST /active: what is active at every token, all of it or the strongest."""

from collections.abc import Iterator
from functools import partial

from app.contract.reading import ActiveRequest
from app.errors import Invalid
from app.settings import Settings
from worker.live import render
from worker.live.capture import CaptureJob
from worker.live.desk import Desk
from worker.live.kinds import OfSae, Values
from worker.live.reading.texts import check_values, encoded, opened
from worker.live.resident import Held, Resident
from worker.live.strongest import Strongest


async def active(desk: Desk, request: ActiveRequest) -> bytes:
    """JSON of an `ActiveAnswer`."""
    if request.top_k is not None and request.top_k < 1:
        raise Invalid(f"top_k is {request.top_k}; it must be at least 1, or left out.")
    work = partial(_prepare, request, settings=desk.settings)
    held, job = await desk.prepared(request.model, [request.sae], work)
    async with desk.captured(held, job) as found:
        return await desk.joined(_pieces(job, found, held.resident))


def _prepare(request: ActiveRequest, held: Held, settings: Settings) -> CaptureJob:
    texts = encoded(request, held, settings)
    ((sae, dictionary),) = held.dictionaries.items()
    tokens = sum(map(len, texts))
    if request.top_k is not None:
        top_k = min(request.top_k, dictionary.d_sae)
        check_values(tokens * top_k, f"{tokens} tokens and {top_k} features at each", settings)
    elif dictionary.signed:  # dense: nearly half of all features are active
        check_values(tokens * dictionary.d_sae, f"{tokens} tokens of all neurons", settings)
    top_k = request.top_k or dictionary.d_sae
    return CaptureJob(texts, [OfSae(sae, dictionary, None, top_k)], most=settings.max_values)


def _pieces(job: CaptureJob, found: list[dict[str, Values]], resident: Resident) -> Iterator[bytes]:
    yield b'{"results":['
    for place, (ids, own) in enumerate(zip(job.texts, found, strict=True)):
        (strongest,) = own.values()
        assert isinstance(strongest, Strongest), "what this reading gives"
        yield (b"," if place else b"") + opened(ids, resident) + b',"top":'
        yield from render.top(strongest, len(ids))
        yield b"}"
    yield b"]}"
