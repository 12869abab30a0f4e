"""Corpus tokens on the shelf: stored once, read a window at a time.

A row of `corpus_chunks` holds a few whole sequences, about `CHUNK_TOKENS` tokens, so that a window
costs one small read: uint32 [sequences], the byte of the row at which each begins, then the tokens
as uint16, or int32 where the vocabulary needs it.

A process keeps the rows that it read, one after another in one array, so that all windows of a
feature are gathered at once. When the array is full it is forgotten and filled anew.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from threading import Lock
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from app.errors import Gone
from app.store.tables import corpus_chunks, packed_id

CHUNK_TOKENS = 512
KEPT_BYTES = 8 * 2**20
"""Tokens of one corpus that a process keeps, unless one answer needs more."""
_IDS_A_QUERY = 500

Connect = Callable[[], AbstractContextManager[Connection]]
"""Opens a connection: `Shelf.read`."""


def chunk_sequences(n_sequences: int, n_tokens: int) -> int:
    """Sequences a row."""
    return max(1, round(CHUNK_TOKENS * n_sequences / max(n_tokens, 1)))


def chunks(flat: np.ndarray, offsets: np.ndarray, per_chunk: int) -> Iterator[bytes]:
    """Cut `flat` (int [tokens]) at `offsets` (int64 [sequences + 1]) into rows, in order."""
    token_type = token_dtype(flat.dtype.itemsize)
    for first in range(0, len(offsets) - 1, per_chunk):
        bounds = offsets[first : first + per_chunk + 1]
        tokens = flat[bounds[0] : bounds[-1]].astype(token_type)
        starts = 4 * len(bounds[1:]) + (bounds[:-1] - bounds[0]) * tokens.itemsize
        yield starts.astype("<u4").tobytes() + tokens.tobytes()


def token_dtype(itemsize: int) -> str:
    """Number format of stored tokens of that many bytes."""
    return "<u2" if itemsize == 2 else "<i4"


class StoredCorpus(NamedTuple):
    """What must be known of a corpus: columns of `corpora`."""

    number: int
    chunk_sequences: int
    token_bytes: int


class Corpus:
    """Windows of one corpus on the shelf. Threads may share it."""

    def __init__(self, stored: StoredCorpus) -> None:
        self._number = stored.number
        self._per_chunk = stored.chunk_sequences
        self._dtype = np.dtype(token_dtype(stored.token_bytes))
        self._lock = Lock()
        self._kept = np.empty(KEPT_BYTES // self._dtype.itemsize, self._dtype)
        self._n_kept = 0
        self._places: dict[int, np.ndarray] = {}
        """Where each sequence of a row begins in what is kept, by number of the row."""

    def windows(
        self,
        connect: Connect,
        sequences: np.ndarray,
        offsets: np.ndarray,
        lengths: np.ndarray,
    ) -> np.ndarray:
        """Token ids of E windows (int [E] each), one after another. Gone when the corpus is."""
        ends = np.cumsum(lengths, dtype=np.int64)
        rows, within = np.divmod(sequences, self._per_chunk)
        asked = list(zip(rows.tolist(), within.tolist(), strict=True))
        with self._lock:
            self._load(connect, {row for row, _ in asked})
            places = np.array([self._places[row][n] for row, n in asked], np.int64)
            first = np.repeat(places + offsets - ends + lengths, lengths)
            return self._kept[first + np.arange(len(first))]

    def _load(self, connect: Connect, wanted: set[int]) -> None:
        """Keep these rows."""
        rows = self._read(connect, wanted - self._places.keys())
        if self._n_kept + self._size(rows) > len(self._kept):
            rows = self._read(connect, wanted)
            self._places, self._n_kept = {}, 0
            if self._size(rows) > len(self._kept):
                self._kept = np.empty(self._size(rows), self._dtype)
        for number, row in rows.items():
            n_sequences = int.from_bytes(row[:4], "little") // 4
            starts = np.frombuffer(row, "<u4", n_sequences) // self._dtype.itemsize
            tokens = np.frombuffer(row, self._dtype, offset=4 * n_sequences)
            self._places[number] = self._n_kept + starts - starts[0]
            self._kept[self._n_kept : self._n_kept + len(tokens)] = tokens
            self._n_kept += len(tokens)

    def _size(self, rows: dict[int, bytes]) -> int:
        """Tokens that rows hold at most."""
        return sum(map(len, rows.values())) // self._dtype.itemsize

    def _read(self, connect: Connect, wanted: set[int]) -> dict[int, bytes]:
        """Rows by their numbers."""
        if not wanted:
            return {}
        base, rows = packed_id(self._number, 0), {}
        ids = [base + number for number in sorted(wanted)]
        with connect() as connection:
            for first in range(0, len(ids), _IDS_A_QUERY):
                some = ids[first : first + _IDS_A_QUERY]
                query = select(corpus_chunks).where(corpus_chunks.c.id.in_(some))
                rows |= {id - base: tokens for id, tokens in connection.execute(query)}
        if len(rows) < len(ids):
            raise Gone("The corpus of this evidence was deleted meanwhile; ask again.")
        return rows
