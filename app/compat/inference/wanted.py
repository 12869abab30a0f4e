"""Steering requests checked and turned into what the live worker does."""

import asyncio
import math

import orjson

from app.api.interventions import resolve
from app.api.limits import at_most
from app.api.problems import invalid
from app.api.state import Services
from app.compat.inference.names import model_of
from app.compat.inference.steer_requests import (
    NPSteerFeature,
    NPSteerVector,
    SteerCompletionChatRequest,
    SteerCompletionRequest,
    SteerMethod,
)
from app.contract.complete import CompleteRequest
from app.contract.reading import DirectionRequest
from app.contract.steering import Intervention, Method, SteeringEntry
from app.errors import Invalid

_METHODS: dict[SteerMethod, Method] = {
    "SIMPLE_ADDITIVE": "add",
    "ORTHOGONAL_DECOMP": "orthogonal",
    "PROJECTION_CAP": "cap",
}
Asked = SteerCompletionRequest | SteerCompletionChatRequest


async def checked_model(services: Services, body: Asked) -> str:
    """The id of the model, once the request asks for something that is served."""
    if (body.features is None) == (body.vectors is None):
        raise Invalid("Invalid request data: exactly one of features or vectors must be provided")
    settings = services.settings
    new, most = body.n_completion_tokens, settings.max_new_tokens
    at_most("body.nCompletionTokens", new, "tokens", most, "SAESCOPE_MAX_NEW_TOKENS")
    name = "features" if body.vectors is None else "vectors"
    given: list[NPSteerFeature] | list[NPSteerVector] = body.features or body.vectors or []
    limit = settings.max_steering
    at_most(f"body.{name}", len(given), "entries", limit, "SAESCOPE_MAX_STEERING")
    model = (await asyncio.to_thread(model_of, services.shelf, body.model)).id
    for place, feature in enumerate(body.features or ()):
        if feature.model != model:
            raise invalid(f"body.features.{place}.model", f"is {feature.model!r}", model)
    return model


async def interventions(services: Services, body: Asked, model: str) -> list[Intervention]:
    """What is done to the steered text; nothing where none is asked for."""
    if "STEERED" not in body.types:
        return []
    skips = isinstance(body, SteerCompletionChatRequest) and not body.steer_special_tokens
    entries = await _entries(services, body, model, skips)
    where = "body.features" if body.vectors is None else "body.vectors"
    return await asyncio.to_thread(resolve, services.shelf, model, entries, where)


def wanted_of(
    body: Asked, model: str, prompt: list[int], steered: list[Intervention]
) -> CompleteRequest:
    """The live worker's request: the same tokens are gone on with once for each type, in their order."""
    types = list(dict.fromkeys(body.types))
    return CompleteRequest(
        model=model,
        prompts=[prompt] * len(types),
        unsteered=[place for place, type_ in enumerate(types) if type_ == "DEFAULT"],
        # Python's generators take a negative seed for its opposite.
        seeds=[int(body.seed) % 2**64],
        max_new_tokens=body.n_completion_tokens,
        fit=True,
        temperature=body.temperature,
        frequency_penalty=body.freq_penalty,
        logprobs=body.n_logprobs or None,
        interventions=steered,
        stream=bool(body.stream),
    )


async def _entries(services: Services, body: Asked, model: str, skips: bool) -> list[SteeringEntry]:
    if body.vectors is not None:
        return [
            _vector(body, one.hook, one.steering_vector, one.strength, f"body.vectors.{i}", skips)
            for i, one in enumerate(body.vectors)
        ]
    entries = []
    for i, one in enumerate(body.features or ()):
        where = f"body.features.{i}"
        if one.steering_vector is None:
            entries.append(_feature(body, one, where, skips))
        else:
            hook = await _hook(services, model, one)
            entries.append(_vector(body, hook, one.steering_vector, one.strength, where, skips))
    return entries


def _feature(body: Asked, one: NPSteerFeature, where: str, skips: bool) -> SteeringEntry:
    return SteeringEntry(
        sae=one.source,
        feature=one.index,
        strength=_strength(body, one.strength, where),
        unit="raw",
        method=_METHODS[body.steer_method],
        skip_special_tokens=skips,
    )


def _vector(
    body: Asked, hook: str, vector: list[float], strength: float, where: str, skips: bool
) -> SteeringEntry:
    return SteeringEntry(
        hook=hook,
        vector=_unit(vector, where) if body.normalize_steering else vector,
        strength=_strength(body, strength, where),
        unit="raw",
        method=_METHODS[body.steer_method],
        skip_special_tokens=skips,
    )


async def _hook(services: Services, model: str, one: NPSteerFeature) -> str:
    """Where a feature writes."""
    asked = DirectionRequest(model=model, sae=one.source, feature=one.index, side="decoder")
    return orjson.loads(await services.live.direction(asked))["hook"]


def _strength(body: Asked, strength: float, where: str) -> float:
    product = strength * body.strength_multiplier
    if not math.isfinite(product):
        raise invalid(f"{where}.strength", "times strengthMultiplier is no finite number", "less")
    return product


def _unit(vector: list[float], where: str) -> list[float]:
    length = math.hypot(*vector)
    if not 0 < length < math.inf:
        raise invalid(
            f"{where}.steeringVector", f"has the length {length:g}", "one with a direction"
        )
    return [number / length for number in vector]
