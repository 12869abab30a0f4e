"""Corpus tokens on the shelf: stored once, read a window at a time.

A row of `corpus_chunks` holds a few whole sequences, about `CHUNK_TOKENS` tokens, so that a window
costs one small read: uint32 starts [sequences + 1], counted in tokens, then the tokens as uint16,
or int32 where the vocabulary needs it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection, Row, select

from app.errors import Gone
from app.store.cache import ByteCache
from app.store.tables import corpus_chunks, packed_id

CHUNK_TOKENS = 512
_IDS_A_QUERY = 500


def chunk_sequences(n_sequences: int, n_tokens: int) -> int:
    """Sequences a row."""
    return max(1, round(CHUNK_TOKENS * n_sequences / max(n_tokens, 1)))


def chunks(flat: np.ndarray, offsets: np.ndarray, per_chunk: int) -> Iterator[bytes]:
    """Cut `flat` (int [tokens]) at `offsets` (int64 [sequences + 1]) into rows, in order."""
    token_type = token_dtype(flat.dtype.itemsize)
    for first in range(0, len(offsets) - 1, per_chunk):
        bounds = offsets[first : first + per_chunk + 1]
        tokens = flat[bounds[0] : bounds[-1]]
        yield (bounds - bounds[0]).astype("<u4").tobytes() + tokens.astype(token_type).tobytes()


def token_dtype(itemsize: int) -> str:
    """Number format of stored tokens of that many bytes."""
    return "<u2" if itemsize == 2 else "<i4"


class Corpus:
    """Windows of one corpus on the shelf."""

    def __init__(self, number: int, n_sequences: int, per_chunk: int, token_bytes: int) -> None:
        self._number = number
        self._n_sequences = n_sequences
        self._per_chunk = per_chunk
        self._token_bytes = token_bytes

    @classmethod
    def of_row(cls, row: Row) -> "Corpus":
        """From a row that has the columns of `corpora`."""
        return cls(row.number, row.n_sequences, row.chunk_sequences, row.token_bytes)

    def windows(
        self,
        connection: Connection,
        cache: ByteCache,
        places: Sequence[tuple[int, int, int]],
    ) -> list[list[int]]:
        """Token ids of windows given as (sequence, offset, length). Gone when the corpus is."""
        per_chunk = self._per_chunk
        rows = self._rows(connection, cache, {place[0] // per_chunk for place in places})
        dtype, width = token_dtype(self._token_bytes), self._token_bytes
        found = []
        for sequence, offset, length in places:
            chunk, place = divmod(sequence, per_chunk)
            row = rows[chunk]
            head = 4 * (min(per_chunk, self._n_sequences - chunk * per_chunk) + 1)
            start = int.from_bytes(row[4 * place : 4 * place + 4], "little") + offset
            found.append(np.frombuffer(row, dtype, length, head + start * width).tolist())
        return found

    def _rows(self, connection: Connection, cache: ByteCache, wanted: set[int]) -> dict[int, bytes]:
        ids = {packed_id(self._number, chunk): chunk for chunk in wanted}
        rows = {chunk: row for id, chunk in ids.items() if (row := cache.get(id)) is not None}
        missing = [id for id, chunk in ids.items() if chunk not in rows]
        for first in range(0, len(missing), _IDS_A_QUERY):
            query = select(corpus_chunks).where(
                corpus_chunks.c.id.in_(missing[first : first + _IDS_A_QUERY])
            )
            for id, row in connection.execute(query):
                cache.put(id, row)
                rows[ids[id]] = row
        if len(rows) < len(wanted):
            raise Gone("The corpus of this evidence was deleted meanwhile; ask again.")
        return rows
