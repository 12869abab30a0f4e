"""Corpus tokens on the shelf: stored once, read a window at a time.

A row of `corpus_chunks` holds a few whole sequences, about `CHUNK_TOKENS` tokens, so that a window
costs one small read: uint32 [sequences], the byte of the row at which each begins, then the tokens
as uint16, or int32 where the vocabulary needs it.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection, select

from app.errors import Gone
from app.store.cache import ByteCache
from app.store.codec import cut
from app.store.tables import corpus_chunks, packed_id

CHUNK_TOKENS = 512
_IDS_A_QUERY = 500
_START = struct.Struct("<I")


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


class Corpus:
    """Windows of one corpus on the shelf."""

    def __init__(self, number: int, per_chunk: int, token_bytes: int) -> None:
        self._number = number
        self._per_chunk = per_chunk
        self._token_bytes = token_bytes

    def windows(
        self,
        connection: Connection,
        cache: ByteCache,
        sequences: Sequence[int],
        offsets: Sequence[int],
        lengths: Sequence[int],
    ) -> list[list[int]]:
        """Token ids of windows. Gone when the corpus is."""
        per_chunk, width = self._per_chunk, self._token_bytes
        rows = self._rows(connection, cache, {sequence // per_chunk for sequence in sequences})
        pieces = []
        for sequence, offset, length in zip(sequences, offsets, lengths, strict=True):
            chunk, place = divmod(sequence, per_chunk)
            row = rows[chunk]
            first = _START.unpack_from(row, 4 * place)[0] + offset * width
            pieces.append(row[first : first + length * width])
        flat = np.frombuffer(b"".join(pieces), token_dtype(width)).tolist()
        return cut(flat, lengths)

    def _rows(self, connection: Connection, cache: ByteCache, wanted: set[int]) -> dict[int, bytes]:
        """Chunks by number."""
        base = packed_id(self._number, 0)
        rows, missing = {}, []
        for chunk in wanted:
            row = cache.get(base + chunk)
            if row is None:
                missing.append(base + chunk)
            else:
                rows[chunk] = row
        for first in range(0, len(missing), _IDS_A_QUERY):
            query = select(corpus_chunks).where(
                corpus_chunks.c.id.in_(missing[first : first + _IDS_A_QUERY])
            )
            for id, row in connection.execute(query):
                cache.put(id, row)
                rows[id - base] = row
        if len(rows) < len(wanted):
            raise Gone("The corpus of this evidence was deleted meanwhile; ask again.")
        return rows
