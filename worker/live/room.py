"""Room in memory: what was used least recently goes when something new would not fit.

What a request holds stays, as long as the request's `Held` lives. So the budget can be exceeded by
what the requests of one moment need together, and by nothing else.
"""

import gc
from collections.abc import Callable
from itertools import count
from weakref import WeakSet

from worker.live.resident import Held, Resident


class Room:
    """Keeps `residents` within a budget. Its owner sees to it that one thread at a time is here."""

    def __init__(self, residents: dict[str, Resident], budget: int) -> None:
        self._residents = residents
        self._budget = budget
        self._taken: WeakSet[Held] = WeakSet()
        self._clock = count(1)

    @property
    def n_bytes(self) -> int:
        """Bytes of all that is in memory."""
        return sum(
            resident.n_bytes
            + resident.captures.n_bytes
            + sum(loaded.n_bytes for loaded in resident.dictionaries.values())
            for resident in self._residents.values()
        )

    def take(self, held: Held) -> Held:
        """Note that a request uses this, from now until it lets go of it."""
        self._taken.add(held)
        held.resident.used = next(self._clock)
        for sae_id in held.dictionaries:
            held.resident.dictionaries[sae_id].used = held.resident.used
        return held

    def make(self, n_bytes: int) -> bool:
        """Drop what nobody holds, until so many bytes more fit or nothing is left to drop; whether
        anything was dropped."""
        if self.n_bytes + n_bytes > self._budget:
            gc.collect()  # a request that failed may still hold something, in its traceback
        dropped = False
        for _, drop in sorted(self._idle(), key=lambda one: one[0]):
            if self.n_bytes + n_bytes <= self._budget:
                break
            drop()
            dropped = True
        return dropped

    def _idle(self) -> list[tuple[int, Callable[[], object]]]:
        """When everything that nobody holds was last used, and what drops it. A model is used
        whenever one of its dictionaries is, so these come first."""
        taken = list(self._taken)
        residents = {held.resident for held in taken}
        dictionaries = {one for held in taken for one in held.dictionaries.values()}
        idle: list[tuple[int, Callable[[], object]]] = []
        for model_id, resident in self._residents.items():
            for sae_id, loaded in resident.dictionaries.items():
                if loaded.dictionary not in dictionaries:
                    idle.append((loaded.used, _dropper(resident.dictionaries, sae_id)))
            if resident not in residents:
                idle.append((resident.used, _dropper(self._residents, model_id)))
        return idle


def _dropper(place: dict, key: str) -> Callable[[], object]:
    return lambda: place.pop(key, None)
