"""One feature: the read that runs thousands of times a second.

It costs one statement: SAE, run, corpus and feature row by their keys, in one join, so a reader sees
one run whatever is switched meanwhile. Its windows' tokens cost one more, for those rows of the
corpus that are not in memory.

An event loop asks `Lookups`, which never holds it up: a SQLite file answers at once, because readers
wait for nobody; Postgres is asked through asynchronous connections; and what is not in memory is
read on a thread.
"""

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from isal import isal_zlib
from sqlalchemy import BigInteger, Connection, bindparam, cast, select

from app.errors import Gone, NotFound
from app.store import codec, find, vocabulary
from app.store import tables as t
from app.store.corpus import Connect, StoredCorpus
from app.store.engine import Shelf
from app.store.hot import HotStatement
from app.store.records import Feature, Vocabulary, Windows

if TYPE_CHECKING:
    from app.store.ask import AsyncReader


class _Stored(NamedTuple):
    """What `_FEATURE` selects."""

    run_id: str
    fingerprint: str
    number: int
    chunk_sequences: int
    token_bytes: int
    vocabulary: str | None
    label: str
    label_kind: str
    label_score: float | None
    density: float
    max_activation: float
    mean_activation: float
    min_activation: float
    calibration: str | None
    evidence: bytes


_FEATURE = HotStatement(
    select(
        t.runs.c.id.label("run_id"),
        t.models.c.fingerprint,
        t.corpora.c.number,
        t.corpora.c.chunk_sequences,
        t.corpora.c.token_bytes,
        t.corpora.c.vocabulary,
        t.features.c.label,
        t.features.c.label_kind,
        t.features.c.label_score,
        t.features.c.density,
        t.features.c.max_activation,
        t.features.c.mean_activation,
        t.features.c.min_activation,
        t.features.c.calibration,
        t.features.c.evidence,
    )
    .join_from(t.saes, t.runs, t.runs.c.number == t.saes.c.run)
    .join(t.models, t.models.c.id == t.saes.c.model_id)
    .join(t.corpora, t.corpora.c.number == t.runs.c.corpus)
    .join(
        t.features,
        t.features.c.id
        == cast(t.saes.c.run, BigInteger) * 2**t.ROW_BITS + bindparam("index", type_=BigInteger),
    )
    .where(t.saes.c.model_id == bindparam("model_id"), t.saes.c.id == bindparam("sae_id"))
)


_KEPT = HotStatement(select(t.kept_columns.c.packed).where(t.kept_columns.c.id == bindparam("id")))
_LARGE_BYTES = 2**15
"""Of kept columns as they are stored: what takes longer to unpack than other requests should wait."""


class Lookups:
    """Looks features up from an event loop; open until `close`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._reader = None if shelf.is_sqlite else _async_reader(shelf)

    async def __call__(self, model_id: str, sae_id: str, index: int) -> tuple[Feature, Vocabulary]:
        """One feature of the run that is served, and the vocabulary that its token ids are from.

        Raises:
            NotFound: there is no such model, SAE or feature.
        """
        key = _key(model_id, sae_id, index)
        if key is None:
            row = None
        elif self._reader:
            row = await _FEATURE.first_of_server(self._reader, **key)
        else:
            row = _FEATURE.first_of_file(self._shelf.reader, **key)
        if row is None:
            raise await asyncio.to_thread(_missing, self._shelf, model_id, sae_id, index)
        make = _Make(self._shelf, model_id, index, _Stored(*row))
        try:
            return make(_not_in_memory)
        except _NotInMemory:
            return await asyncio.to_thread(make, self._shelf.read)

    async def kept(self, run: int, index: int) -> dict[str, Any]:
        """What the source of an imported feature said of it beyond our columns.

        Raises:
            Gone: the run (by number) was collected.
        """
        id = t.packed_id(run, index)
        if self._reader:
            row = await _KEPT.first_of_server(self._reader, id=id)
        else:
            row = _KEPT.first_of_file(self._shelf.reader, id=id)
        if row and len(row[0]) > _LARGE_BYTES:
            return await asyncio.to_thread(_kept, row)
        return _kept(row)

    def kept_now(self, run: int, index: int) -> dict[str, Any]:
        """The same for callers that may wait."""
        return _kept(_KEPT.first(self._shelf.reader, id=t.packed_id(run, index)))

    async def close(self) -> None:
        """Close connections."""
        if self._reader:
            await self._reader.close()


def _kept(row: tuple | None) -> dict[str, Any]:
    if row is None:
        raise Gone("This evidence was deleted meanwhile; ask again.")
    return orjson.loads(isal_zlib.decompress(row[0]))


def _async_reader(shelf: Shelf) -> "AsyncReader":
    # Imported only where there is a Postgres: psycopg takes a tenth of a second.
    from app.store.ask import AsyncReader

    return AsyncReader(shelf)


def feature(shelf: Shelf, model_id: str, sae_id: str, index: int) -> Feature:
    """The same for callers that may wait."""
    return with_tokens(shelf, model_id, sae_id, index)[0]


def with_tokens(shelf: Shelf, model_id: str, sae_id: str, index: int) -> tuple[Feature, Vocabulary]:
    """The same, and the vocabulary that the feature's token ids are from."""
    key = _key(model_id, sae_id, index)
    row = _FEATURE.first(shelf.reader, **key) if key else None
    if row is None:
        raise _missing(shelf, model_id, sae_id, index)
    return _Make(shelf, model_id, index, _Stored(*row))(shelf.read)


def _key(model_id: str, sae_id: str, index: int) -> dict[str, Any] | None:
    """The statement's parameters. An index of more bits would be a row of another run."""
    known = 0 <= index <= t.ROW_MASK
    return {"model_id": model_id, "sae_id": sae_id, "index": index} if known else None


def _missing(shelf: Shelf, model_id: str, sae_id: str, index: int) -> NotFound:
    with shelf.read() as connection:
        return find.no_feature(connection, model_id, sae_id, index)


class _NotInMemory(Exception):
    """Tokens or a vocabulary have to be read."""


def _not_in_memory() -> AbstractContextManager[Connection]:
    raise _NotInMemory


@dataclass(frozen=True, slots=True)
class _Make:
    """Makes the answer from a stored row."""

    shelf: Shelf
    model_id: str
    index: int
    row: _Stored

    def __call__(self, connect: Connect) -> tuple[Feature, Vocabulary]:
        """The feature and its vocabulary; `connect` is called for what is not in memory."""
        row, evidence = self.row, codec.unpack(self.row.evidence)
        feature = Feature(
            index=self.index,
            run_id=row.run_id,
            label=row.label,
            label_kind=row.label_kind,
            label_score=row.label_score,
            density=row.density,
            max_activation=row.max_activation,
            mean_activation=row.mean_activation,
            min_activation=row.min_activation,
            histogram_edges=evidence.histogram_edges,
            histogram_counts=evidence.histogram_counts,
            top_logits=evidence.top_logits,
            bottom_logits=evidence.bottom_logits,
            logit_edges=evidence.logit_edges,
            logit_counts=evidence.logit_counts,
            windows=self._windows(evidence, connect),
            neighbors=evidence.neighbors,
            neurons=evidence.neurons,
            coactive=evidence.coactive,
            calibration=row.calibration,
        )
        return feature, self._vocabulary(connect)

    def _vocabulary(self, connect: Connect) -> Vocabulary:
        row = self.row
        if row.vocabulary:
            return vocabulary.of_corpus(self.shelf, connect, row.number, row.vocabulary)
        return vocabulary.of_model(self.shelf, connect, self.model_id, row.fingerprint)

    def _windows(self, evidence: codec.Evidence, connect: Connect) -> Windows:
        corpus = self.shelf.corpus(StoredCorpus(*self.row[2:5]))
        places = (evidence.sequence, evidence.offset, evidence.length)
        return Windows(
            band=evidence.band,
            sequence=evidence.sequence.tolist(),
            offset=evidence.offset.tolist(),
            length=evidence.length.tolist(),
            peak=evidence.peak,
            token_ids=corpus.windows(connect, *places),
            values=evidence.values,
        )
