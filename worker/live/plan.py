"""What a recorded decode step does at each site, whatever rows it is replayed for.

A recording cannot decide anything, so it does at a site what any row needed there since the engine
was started: rows that do not need it have zeros in their buffers. Only rows that read an activation
have no recording, because which dictionaries read, and which features, differs from step to step.
"""

from collections.abc import Iterable
from itertools import zip_longest

from worker.live.rank import Use

RECORDED_RANKS = 2
"""Edits of a row at one site that are recorded; their buffers stay for good."""

Plan = dict[str, tuple[Use, ...]]
"""By site, what is needed of each rank."""
_NOTHING = Use(acts=False, dots=False, reads=False, gates=False, skips=False)


def grown(plan: Plan, needed: dict[str, list[Use]]) -> Plan | None:
    """The plan that does what is needed besides; None where that cannot be recorded."""
    wider = dict(plan)
    for site, uses in needed.items():
        acting = [rank for rank, use in enumerate(uses) if use.acts]
        if not acting:
            continue
        if acting[-1] >= RECORDED_RANKS or any(use.reads or use.gates for use in uses):
            return None
        wider[site] = tuple(_both(zip_longest(wider.get(site, ()), uses[: acting[-1] + 1])))
    return wider


def _both(pairs: Iterable[tuple[Use | None, Use | None]]) -> Iterable[Use]:
    for one, other in pairs:
        either = zip(one or _NOTHING, other or _NOTHING, strict=True)
        yield Use(*(a or b for a, b in either))
