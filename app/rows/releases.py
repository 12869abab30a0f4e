"""Which SAEs a release publishes."""

from app.errors import NotFound
from app.rows.about import release_of
from app.store import find, labels
from app.store import tables as t
from app.store.engine import Shelf
from app.store.labels import Served
from app.store.read import sae_record


class Releases:
    """Releases by name. What an SAE tells of its release is read once a run: it may be long, and Postgres
    cannot look into JSON in which a NUL stands."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._names: dict[int, str] = {}
        """By the number of the run that is served."""

    def __call__(self, name: str) -> list[Served]:
        """The SAEs of a release that have evidence, over all models. NotFound when there is none."""
        served = labels.of_all(self._shelf)
        known = {run: self._names.get(run) or self._read(run) for _, _, run in served}
        self._names = known  # forgets the runs that are no longer served
        found = [one for one in served if known[one.run] == name]
        if not found:
            raise NotFound(
                f"There is no release '{name}' with evidence here; a release is what `release.jsonl` of "
                "an import calls it, or a release of SAELens' directory, or else the set of an SAE."
            )
        return found

    def _read(self, run: int) -> str:
        """The name, empty when the SAE was deleted at this moment."""
        with self._shelf.read() as connection:
            row = connection.execute(find.sae_query().where(t.saes.c.run == run)).first()
        return release_of(sae_record(row)) if row else ""
