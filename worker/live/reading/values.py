"""POST /values: one feature, or one vector, at every token."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import orjson
import torch

from app.contract.reading import ValuesRequest
from app.errors import Invalid
from app.settings import Settings
from worker.live.capture import CaptureJob
from worker.live.desk import Desk
from worker.live.kinds import OfSae, OfVector, Values
from worker.live.reading.texts import encoded, is_bos, opened
from worker.live.resident import Held, Resident
from worker.live.steering import check_feature
from worker.models import LanguageModel
from worker.tokens import tokenizer_prepends_bos

_NAME = "values"
_FLOAT32_MAX = torch.finfo(torch.float32).max


async def values(desk: Desk, request: ValuesRequest) -> bytes:
    """JSON of a `ValuesAnswer`."""
    _check_target(request)
    saes = [] if request.sae is None else [request.sae]
    work = partial(_prepare, request, settings=desk.settings)
    held, job = await desk.prepared(request.model, saes, work)
    async with desk.captured(held, job) as found:
        return await desk.joined(_pieces(request, job, found, held.resident))


def _check_target(request: ValuesRequest) -> None:
    of_feature = [request.sae is not None, request.feature is not None]
    of_vector = [request.hook is not None, request.vector is not None]
    if sorted([of_feature, of_vector]) != [[False, False], [True, True]]:
        raise Invalid("Give either sae and feature, or hook and vector.")


def _prepare(request: ValuesRequest, held: Held, settings: Settings) -> CaptureJob:
    if request.vector is None:
        texts = encoded(request, held, settings)
        return CaptureJob(texts, [_feature(request, held)])
    reading = _vector(request, held.resident.model)
    own = tokenizer_prepends_bos(held.resident.model)
    return CaptureJob(encoded(request, held, settings, own), [reading])


def _feature(request: ValuesRequest, held: Held) -> OfSae:
    (dictionary,), feature = held.dictionaries.values(), request.feature
    assert feature is not None, "checked above"
    check_feature("feature", dictionary, feature)
    return OfSae(_NAME, dictionary, (feature,), 1)


def _vector(request: ValuesRequest, model: LanguageModel) -> OfVector:
    hook, vector = request.hook or "", request.vector or []
    width = model.site(hook).width
    if len(vector) != width:
        raise Invalid(f"vector has {len(vector)} numbers; {hook} has {width}.")
    if not all(abs(number) <= _FLOAT32_MAX for number in vector):
        raise Invalid("vector must consist of finite 32-bit numbers.")
    return OfVector(_NAME, hook, torch.tensor(vector, device=model.device))


def _pieces(
    request: ValuesRequest, job: CaptureJob, found: list[dict[str, Values]], resident: Resident
) -> Iterator[bytes]:
    """A text at a time."""
    yield b'{"results":['
    for place, (ids, own) in enumerate(zip(job.texts, found, strict=True)):
        numbers = np.asarray(own[_NAME]).reshape(len(ids)).copy()
        if request.vector is None:
            numbers[is_bos(ids, resident.model)] = 0
        elif not np.isfinite(numbers).all():
            raise Invalid(
                "vector is so long that the dot products are not finite; give a shorter one."
            )
        told = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
        yield (b"," if place else b"") + opened(ids, resident) + b',"values":%b}' % told
    yield b"]}"
