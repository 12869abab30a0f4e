"""Steering entries as callers write them, turned into what the live worker applies.

The amount of an intervention is strength x unit. The unit `max_activation` is the feature's own
strongest activation on the corpus, so that a strength means the same for every feature; it takes
evidence. A vector has no maximum and is counted raw. Vectors, hooks and sites are for the live
worker to check: it has the model.
"""

from collections.abc import Mapping, Sequence

from app.api.problems import invalid
from app.contract.ids import is_neuron_source
from app.contract.steering import Condition, Gate, Intervention, SteeringEntry
from app.errors import NotFound
from app.store import read
from app.store.engine import Shelf
from app.store.records import SaeRecord

UNITLESS = frozenset({"orthogonal", "ablate"})
FLOAT32_MAX = 3.4e38
"""The live worker counts in 32 bits."""


def resolve(
    shelf: Shelf,
    model_id: str,
    entries: Sequence[SteeringEntry],
    where: str = "body.steering",
) -> list[Intervention]:
    """Put amounts to the entries, in order; `where` the request has them.

    NotFound for an unknown model or SAE; Invalid for what the shelf says cannot be steered.
    """
    named = [one.sae for entry in entries for one in (entry, entry.when) if one and one.sae]
    saes = {sae_id: _sae(shelf, model_id, sae_id) for sae_id in named}
    return [
        _intervention(shelf, entry, saes, f"{where}.{place}") for place, entry in enumerate(entries)
    ]


def _sae(shelf: Shelf, model_id: str, sae_id: str) -> SaeRecord | None:
    """The SAE; None for neurons that are not registered, which can be steered all the same."""
    try:
        return read.sae(shelf, model_id, sae_id)
    except NotFound:
        if not is_neuron_source(sae_id):
            raise
        read.model(shelf, model_id)
        return None


def _intervention(
    shelf: Shelf, entry: SteeringEntry, saes: Mapping[str, SaeRecord | None], where: str
) -> Intervention:
    sae = saes.get(entry.sae or "")
    if sae and not sae.steerable:
        raise invalid(
            f"{where}.sae",
            f"is {sae.id}, which cannot be steered: {sae.steerable_reason}",
            "SAEs with `steerable: true`",
        )
    _check_feature(entry, sae, where)
    unit = 1.0 if entry.method in UNITLESS else _unit(shelf, entry, sae, where)
    amount = 0.0 if entry.method == "ablate" else _times(entry.strength, unit, f"{where}.strength")
    return Intervention(
        **entry.model_dump(exclude={"strength", "unit", "when"}),
        amount=amount,
        when=entry.when and _gate(shelf, entry.when, saes[entry.when.sae], f"{where}.when"),
    )


def _gate(shelf: Shelf, when: Condition, sae: SaeRecord | None, where: str) -> Gate:
    _check_feature(when, sae, where)
    unit = _unit(shelf, when, sae, where) if when.above else 1.0
    above = _times(when.above, unit, f"{where}.above")
    return Gate(sae=when.sae, feature=when.feature, above=above)


def _check_feature(named: SteeringEntry | Condition, sae: SaeRecord | None, where: str) -> None:
    if sae and named.feature is not None and named.feature >= sae.d_sae:
        raise invalid(
            f"{where}.feature", f"is {named.feature}", f"0 to {sae.d_sae - 1} of {sae.id}"
        )


def check_strengths(interventions: Sequence[Intervention], strengths: Sequence[float]) -> None:
    """Refuse strengths that the live worker could not count, times the amounts of `interventions`."""
    for place, strength in enumerate(strengths):
        for one in interventions:
            _times(strength, one.amount, f"body.strengths.{place}")


def _times(strength: float, unit: float, where: str) -> float:
    """The amount of a strength; Invalid when the live worker could not count it."""
    if abs(strength * unit) > FLOAT32_MAX:
        raise invalid(
            where,
            f"is {strength:g}, which times the unit is more than 32-bit numbers hold",
            f"up to {FLOAT32_MAX / abs(unit):.3g} either way",
        )
    return strength * unit


def _unit(
    shelf: Shelf, entry: SteeringEntry | Condition, sae: SaeRecord | None, where: str
) -> float:
    """What a strength of 1 means for this entry."""
    if entry.unit == "raw":
        return 1.0
    if entry.feature is None:
        if "unit" in entry.model_fields_set:
            raise invalid(
                f"{where}.unit", "is `max_activation`, and a vector has no stored maximum", "`raw`"
            )
        return 1.0
    if sae is None or sae.run_id is None:
        raise invalid(
            f"{where}.unit",
            f"is `max_activation`, and {entry.sae} has no evidence to take the maximum from",
            "`raw`, or a precompute job first",
        )
    maximum = read.max_activations(shelf, sae.model_id, sae.id, [entry.feature])[entry.feature]
    if maximum <= 0:
        raise invalid(
            f"{where}.unit",
            f"is `max_activation`, and feature {entry.feature} of {sae.id} never fired on the "
            "corpus, so that its maximum is 0",
            "`raw`, or another feature",
        )
    return maximum
