"""Steering entries as callers write them, turned into what the live worker applies.

The amount of an intervention is strength x unit. The unit `max_activation` is the feature's own
strongest activation on the corpus, so that a strength means the same for every feature; it takes
evidence. A caller's vector has no maximum and is counted raw.
"""

import math
from collections.abc import Sequence

from app.api.known import check_feature, known_saes
from app.api.problems import invalid
from app.contract.steering import Intervention, SteeringEntry
from app.store import read
from app.store.engine import Shelf
from app.store.records import SaeRecord

UNITLESS = frozenset({"orthogonal", "ablate"})


def resolve(shelf: Shelf, model_id: str, entries: Sequence[SteeringEntry]) -> list[Intervention]:
    """Check the entries against the shelf, in order, and put amounts to them.

    NotFound for an unknown model or SAE; Invalid for what cannot be applied.
    """
    model = read.model(shelf, model_id)
    saes = known_saes(shelf, model_id, [entry.sae for entry in entries if entry.sae])
    maxima = _maxima(shelf, saes, entries)
    resolved = []
    for place, entry in enumerate(entries):
        where = f"body.steering.{place}"
        if entry.sae is not None and entry.feature is not None:
            _check_steerable(where, saes[entry.sae], entry.feature)
            unit = _unit(where, entry, saes[entry.sae], maxima)
        else:
            _check_vector(where, entry, model.hook_points)
            unit = 1.0
        resolved.append(_intervention(entry, unit))
    return resolved


def _maxima(
    shelf: Shelf, saes: dict[str, SaeRecord], entries: Sequence[SteeringEntry]
) -> dict[tuple[str, int], float]:
    """Stored maxima of the features whose unit needs them, where there is evidence."""
    wanted: dict[str, set[int]] = {}
    for entry in entries:
        if entry.sae and entry.feature is not None and _needs_maximum(entry):
            sae = saes[entry.sae]
            if sae.run_id and entry.feature < sae.d_sae:
                wanted.setdefault(sae.id, set()).add(entry.feature)
    return {
        (sae_id, index): maximum
        for sae_id, indices in wanted.items()
        for index, maximum in read.max_activations(
            shelf, saes[sae_id].model_id, sae_id, sorted(indices)
        ).items()
    }


def _needs_maximum(entry: SteeringEntry) -> bool:
    return entry.unit == "max_activation" and entry.method not in UNITLESS


def _check_steerable(where: str, sae: SaeRecord, feature: int) -> None:
    if not sae.steerable:
        raise invalid(
            f"{where}.sae",
            f"is {sae.id}, which cannot be steered: {sae.steerable_reason}",
            "SAEs with `steerable: true`",
        )
    check_feature(f"{where}.feature", sae, feature)


def _unit(
    where: str, entry: SteeringEntry, sae: SaeRecord, maxima: dict[tuple[str, int], float]
) -> float:
    """What a strength of 1 means for this entry."""
    if not _needs_maximum(entry):
        return 1.0
    if sae.run_id is None:
        raise invalid(
            f"{where}.unit",
            f"is `max_activation`, and {sae.id} has no evidence to take a maximum from",
            "`raw`, or a precompute job first",
        )
    maximum = maxima[sae.id, entry.feature or 0]
    if maximum <= 0:
        raise invalid(
            f"{where}.unit",
            f"is `max_activation`, and feature {entry.feature} of {sae.id} never fired on the "
            "corpus, so that its maximum is 0",
            "`raw`, or another feature",
        )
    return maximum


def _check_vector(where: str, entry: SteeringEntry, hook_points: dict[str, int]) -> None:
    hook, vector = entry.hook or "", entry.vector or []
    if hook not in hook_points:
        raise invalid(
            f"{where}.hook",
            f"is {hook!r}, which this model does not have",
            "its `hook_points`, see GET /v1/models/{model}",
        )
    if len(vector) != hook_points[hook]:
        raise invalid(
            f"{where}.vector",
            f"has {len(vector)} numbers",
            f"{hook_points[hook]}, the width of {hook}",
        )
    if not all(map(math.isfinite, vector)):
        raise invalid(f"{where}.vector", "has numbers that are not finite", "finite numbers")
    if "unit" in entry.model_fields_set and entry.unit != "raw":
        raise invalid(
            f"{where}.unit",
            "is `max_activation`, and a vector has no stored maximum",
            "`raw`, or no unit",
        )


def _intervention(entry: SteeringEntry, unit: float) -> Intervention:
    amount = 0.0 if entry.method == "ablate" else entry.strength * unit
    return Intervention(**entry.model_dump(exclude={"strength", "unit"}), amount=amount)
