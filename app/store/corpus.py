"""Corpus tokens on the shelf: stored once, read a window at a time, or a whole sequence.

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
"""Rows of one corpus that a process keeps, unless one answer needs more."""
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
        self._kept = np.empty(KEPT_BYTES // 4, "<u4")
        self._places: dict[int, int] = {}
        """Where each row that is kept begins, in fours of bytes, by its number."""
        self._n_kept = 0

    def windows(
        self,
        connect: Connect,
        sequences: np.ndarray,
        offsets: np.ndarray,
        lengths: np.ndarray,
    ) -> np.ndarray:
        """Token ids [E, L] of E windows (int [E] each), L the length of the longest; behind the end
        of a shorter one its last token is repeated. Gone when the corpus is."""
        rows, within = np.divmod(sequences, self._per_chunk)
        numbers = rows.tolist()
        along = np.minimum(np.arange(lengths.max(initial=0)), lengths[:, None].astype(int) - 1)
        places, kept = self._at_hand(connect, numbers)
        begins = (4 * places + kept[places + within]) // self._dtype.itemsize
        return kept.view(self._dtype)[(begins + offsets)[:, None] + along]

    def sequences(self, connect: Connect, numbers: np.ndarray) -> list[np.ndarray]:
        """Token ids (uint16 or int32) of whole sequences that there are, by number, int
        [n]. Nothing is kept. Gone when the corpus is."""
        rows, within = np.divmod(numbers, self._per_chunk)
        read = self._read(connect, set(rows.tolist()))
        pairs = zip(rows.tolist(), within.tolist(), strict=True)
        return [self._cut(read[row], at) for row, at in pairs]

    def _cut(self, row: bytes, at: int) -> np.ndarray:
        """One sequence of a row. The first begins behind the list of beginnings."""
        n_sequences = int.from_bytes(row[:4], "little") // 4
        bounds = [*np.frombuffer(row, "<u4", n_sequences).tolist(), len(row)]
        return np.frombuffer(row[bounds[at] : bounds[at + 1]], self._dtype)

    def _at_hand(self, connect: Connect, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Where these rows begin, and in what. Nobody waits while another reads the database."""
        with self._lock:
            missing = {number for number in numbers if number not in self._places}
            if not missing:
                return self._find(numbers)
        rows = self._read(connect, missing)
        with self._lock:
            if self._keep(rows) and all(number in self._places for number in numbers):
                return self._find(numbers)
        rows = self._read(connect, set(numbers))
        with self._lock:
            self._forget(_fours(rows))
            self._keep(rows)
            return self._find(numbers)

    def _find(self, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        places = map(self._places.__getitem__, numbers)
        return np.fromiter(places, np.int64, len(numbers)), self._kept

    def _keep(self, rows: dict[int, bytes]) -> bool:
        """Keep rows, when there is room."""
        if self._n_kept + _fours(rows) > len(self._kept):
            return False
        kept = self._kept.view(np.uint8)
        for number, row in rows.items():
            self._places[number] = self._n_kept
            kept[4 * self._n_kept : 4 * self._n_kept + len(row)] = np.frombuffer(row, np.uint8)
            self._n_kept += -(-len(row) // 4)
        return True

    def _forget(self, fours: int) -> None:
        """Make room. A new array: the old one may be read at this moment."""
        self._places, self._n_kept = {}, 0
        self._kept = np.empty(max(KEPT_BYTES // 4, fours), "<u4")

    def _read(self, connect: Connect, wanted: set[int]) -> dict[int, bytes]:
        """Rows by their numbers."""
        base, rows = packed_id(self._number, 0), {}
        ids = [base + number for number in wanted]
        with connect() as connection:
            for first in range(0, len(ids), _IDS_A_QUERY):
                some = ids[first : first + _IDS_A_QUERY]
                query = select(corpus_chunks).where(corpus_chunks.c.id.in_(some))
                rows |= {id - base: tokens for id, tokens in connection.execute(query)}
        if len(rows) < len(wanted):
            raise Gone("The corpus of this evidence was deleted meanwhile; ask again.")
        return rows


def _fours(rows: dict[int, bytes]) -> int:
    """How much room rows take."""
    return sum(-(-len(row) // 4) for row in rows.values())
