"""Steered requests turned into what the live worker does, and what it tells put together.

Both answers are rows of one request: one prompt is steered and the other is not.
"""

from math import isfinite
from typing import Any

import orjson

from app.api.interventions import resolve
from app.api.limits import at_most
from app.api.problems import invalid
from app.api.state import Services
from app.compat.neuronpedia.steer_bodies import METHODS, SteerAsked, SteerFeature
from app.compat.neuronpedia.targets import vector_of
from app.compat.told import drawn
from app.contract.complete import CompleteRequest
from app.contract.steering import Intervention, SteeringEntry
from app.store import vectors

STEERED, DEFAULT = "STEERED", "DEFAULT"
LOGPROBS = 5
"""Of the most probable tokens beside each that was drawn."""

Prompts = dict[str, Any]
"""By the answer's name: texts, or token ids."""


def wanted_of(
    services: Services, body: SteerAsked, prompts: Prompts, skips_special: bool = False
) -> CompleteRequest:
    """The live worker's request. Looks into the shelf, so not on the event loop."""
    limit = services.settings.max_steering
    at_most("body.features", len(body.features), "features", limit, "SAESCOPE_MAX_STEERING")
    names = list(prompts)
    return CompleteRequest(
        model=body.modelId,
        prompts=list(prompts.values()),
        unsteered=[names.index(DEFAULT)],
        # Python's generators take a negative seed for its opposite.
        seeds=[int(body.seed) % 2**63],
        temperature=body.temperature,
        max_new_tokens=body.n_tokens,
        frequency_penalty=body.freq_penalty,
        logprobs=LOGPROBS,
        stream=body.stream,
        interventions=_interventions(services, body, skips_special),
    )


def answers_of(body: SteerAsked) -> list[str]:
    """Names of the answers that there are to be, in the order of the prompts."""
    return [STEERED, DEFAULT] if body.features else [DEFAULT]


def _interventions(services: Services, body: SteerAsked, skips_special: bool) -> list[Intervention]:
    for place, one in enumerate(body.features):
        if one.modelId != body.modelId:
            where = f"body.features.{place}.modelId"
            raise invalid(where, f"is {one.modelId}", f"{body.modelId}, which is steered")
    by_vector = [vectors.is_source(one.layer) for one in body.features]
    if any(by_vector) and not all(by_vector):
        raise invalid("body.features", "has both vectors and features", "one or the other")
    strengths = [one.strength * body.strength_multiplier for one in body.features]
    for place, strength in enumerate(strengths):
        if not isfinite(strength):
            where = f"body.features.{place}.strength"
            raise invalid(where, "times strength_multiplier is no 32-bit number", "less")
    entries = [
        SteeringEntry.model_validate(
            {
                **_target(services, one),
                "strength": strength,
                "unit": "raw",
                "method": METHODS[body.steer_method],
                "skip_special_tokens": skips_special,
            }
        )
        for one, strength in zip(body.features, strengths, strict=True)
    ]
    return resolve(services.shelf, body.modelId, entries)


def _target(services: Services, one: SteerFeature) -> dict[str, Any]:
    vector = vector_of(services.shelf, one.name)
    if vector is None:
        return {"sae": one.layer, "feature": one.index}
    return {"hook": vector.hook_name, "vector": vector.values.tolist()}


class Answers:
    """What has been said of every answer."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.texts = dict.fromkeys(names, "")
        self.logprobs: dict[str, list[orjson.Fragment]] = {name: [] for name in names}

    def add(self, choice: int, told: dict[str, Any]) -> None:
        """What is new of an answer: all of it, or an event of a stream."""
        name = self._names[choice]
        self.texts[name] += told["text"]
        self.logprobs[name] += map(drawn, told.get("logprobs") or ())
