"""What the rows of a feature say of its source: the same for all features of a run, so that it is
read once."""

from dataclasses import dataclass

from app.errors import Gone
from app.rows.about import served
from app.rows.page import Names, Row
from app.store import find, read
from app.store.engine import Shelf
from app.store.records import IMPORTED

KEPT = 64
"""Sources that a process keeps."""


@dataclass(frozen=True)
class Source:
    """A run's source."""

    names: Names
    run: int
    """The run's number."""
    imported: bool
    """Whether features bring columns of their own."""
    about: dict[str, Row]
    """As `about.served`."""


class Sources:
    """Sources by the ids of their runs, which are never used again."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known: dict[str, Source] = {}

    def known(self, run_id: str) -> Source | None:
        """A source that is in memory."""
        return self._known.get(run_id)

    def __call__(self, run_id: str) -> Source:
        """A run's source. Gone when its SAE was deleted or replaced."""
        found = self._known.get(run_id)
        if found is None:
            found = self._read(run_id)
            for oldest in list(self._known)[: 1 - KEPT]:
                self._known.pop(oldest, None)
            self._known[run_id] = found
        return found

    def _read(self, run_id: str) -> Source:
        with self._shelf.read() as connection:
            run = find.run(connection, run_id)
        model = read.model(self._shelf, run.model_id)
        sae = read.sae(self._shelf, run.model_id, run.sae_id)
        if sae.fingerprint != run.sae_fingerprint:
            raise Gone("This evidence was deleted meanwhile; ask again.")
        return Source(
            Names(model.id, sae.id, sae.hook_name),
            run.number,
            sae.architecture == IMPORTED,
            served(model, sae),
        )
