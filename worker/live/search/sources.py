"""Which SAEs a search looks into, and how often and how strongly their features fire."""

from collections import OrderedDict

from app.contract.ids import is_neuron_source
from app.contract.search import MOST_SAES, SearchRequest
from app.errors import Invalid, NotFound
from app.store import activity, find, read
from app.store.activity import Activity
from app.store.engine import Shelf
from app.store.records import SaeRecord
from worker.live.library import Library
from worker.live.search.vector import fitting

KEPT_BYTES = 2**26
"""Of the columns that are kept: those of four million features."""

_AT_ONCE = 100


class Sources:
    """Chooses them. One thread at a time may use it."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.kept = Kept(library.shelf)

    def choose(self, request: SearchRequest) -> dict[str, Activity]:
        """The SAEs by id, in the order of the request.

        Raises:
            NotFound: no such model or SAE, or no evidence.
            Invalid: none fits, or one that was named does not, or there are too many.
        """
        ready = {one.id: one for one in self._records(request.model) if one.run_id}
        self._library.look_up(request.model, [], engine=False)
        chosen = _all(request.model, ready) if request.saes is None else self._named(request, ready)
        if request.vector is not None:
            chosen = fitting(request, chosen)
        if len(chosen) > MOST_SAES:
            raise Invalid(
                f"{request.model} has {len(chosen)} SAEs that could be searched; name at most "
                f"{MOST_SAES} of them in saes."
            )
        return {one.id: self.kept.get(one) for one in chosen}

    def _named(self, request: SearchRequest, ready: dict[str, SaeRecord]) -> list[SaeRecord]:
        names = list(dict.fromkeys(request.saes or ()))
        self._library.look_up(request.model, names, engine=False)
        for name in names:
            if name not in ready:
                raise find.no_evidence(request.model, name)
        return [ready[name] for name in names]

    def _records(self, model: str) -> list[SaeRecord]:
        found: list[SaeRecord] = []
        cursor = None
        while True:
            page = read.saes(self._library.shelf, model, _AT_ONCE, cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found


def _all(model: str, ready: dict[str, SaeRecord]) -> list[SaeRecord]:
    """All but neurons, of which there are so many that they would crowd the features out, and SAEs
    whose weights are not here."""
    chosen = [one for one in ready.values() if one.path and not is_neuron_source(one.id)]
    if not chosen:
        raise NotFound(
            f"No SAE of {model} has evidence yet; submit a precompute job (POST /v1/jobs) and wait "
            "until it is done, or name the neurons of a layer that has."
        )
    return chosen


class Kept:
    """What was read of runs; those that were not used for longest go first."""

    def __init__(self, shelf: Shelf, most_bytes: int = KEPT_BYTES) -> None:
        self._shelf, self._most = shelf, most_bytes
        self._runs: OrderedDict[str, Activity] = OrderedDict()

    def get(self, sae: SaeRecord) -> Activity:
        """Of the run that the record names, or of a newer one."""
        found = self._runs.pop(sae.run_id or "", None)
        if found is None:
            found = activity.served(self._shelf, sae.model_id, sae.id)
        self._runs[found.run_id] = found
        while sum(one.n_bytes for one in self._runs.values()) > self._most:
            self._runs.popitem(last=False)
        return found
