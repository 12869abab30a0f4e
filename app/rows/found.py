"""Features found on the shelf, with all that their rows are made from.

The work is split: finding reads the database, `Found.written` only computes, and is left out when a
caller has the answer already.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.errors import Gone, NotFound
from app.rows import render
from app.rows.render import Written
from app.rows.shelved import page_of
from app.rows.source import Source, Sources
from app.store import lookup
from app.store.engine import Shelf
from app.store.lookup import Lookups
from app.store.records import Feature, Vocabulary


class Name(NamedTuple):
    """What a feature is called."""

    model: str
    sae: str
    feature: int


@dataclass(frozen=True)
class Found:
    """A feature that is on the shelf."""

    source: Source
    feature: Feature
    vocabulary: Vocabulary
    kept: dict[str, Any] | None
    """What its source said beyond our columns."""

    def written(self) -> Written:
        """Its rows, activations by falling maximum."""
        written = render.write(self.source.names, page_of(self.feature, self.vocabulary))
        maxima = [float(row["maxValue"]) for row in written.activations]
        if self.kept is not None:
            written = render.complete(written, self.kept)
        order = sorted(range(len(maxima)), key=maxima.__getitem__, reverse=True)
        activations = [written.activations[place] for place in order]
        return Written(written.neuron, activations, written.explanations)


class Finder:
    """Finds features by their names."""

    def __init__(self, shelf: Shelf, lookups: Lookups) -> None:
        self.sources = Sources(shelf)
        self._shelf = shelf
        self._lookups = lookups

    async def __call__(self, name: Name) -> Found:
        """One feature, from an event loop.

        Raises:
            NotFound: there is no such model, SAE or feature.
            Gone: it was deleted at this moment.
        """
        feature, vocabulary = await self._lookups(*name)
        source = self.sources.known(feature.run_id)
        if source is None:
            source = await asyncio.to_thread(self.sources, feature.run_id)
        kept = await self._lookups.kept(source.run, name.feature) if source.imported else None
        return Found(source, feature, vocabulary, kept)

    def now(self, name: Name) -> Found | None:
        """The same for callers that may wait; None where there is none."""
        try:
            feature, vocabulary = lookup.with_tokens(self._shelf, *name)
            source = self.sources(feature.run_id)
            kept = self._lookups.kept_now(source.run, name.feature) if source.imported else None
        except (NotFound, Gone):
            return None
        return Found(source, feature, vocabulary, kept)
