"""A vocabulary as one blob: token strings once per model, never per feature; or once per source of
imported evidence.

Format 1, little-endian: uint8 format, uint32 tokens, uint32 special tokens, then uint32 lengths of
the display strings (UTF-8), uint32 lengths of the exact bytes, int32 special ids, all display
strings, all exact bytes.
"""

import struct

import numpy as np
from sqlalchemy import Select, select

from app.errors import Gone
from app.store.corpus import Connect
from app.store.engine import Shelf
from app.store.records import Vocabulary
from app.store.tables import corpus_vocabularies, vocabularies

FORMAT = 1
KEPT = 8
"""Vocabularies that a process keeps."""
_HEAD = struct.Struct("<BII")


def pack(vocabulary: Vocabulary) -> bytes:
    """The vocabulary as a blob."""
    display = [string.encode() for string in vocabulary.display]
    raw = vocabulary.raw
    return b"".join(
        [
            _HEAD.pack(FORMAT, len(display), len(vocabulary.special)),
            np.array([len(item) for item in display], "<u4").tobytes(),
            np.array([len(item) for item in raw], "<u4").tobytes(),
            np.array(vocabulary.special, "<i4").tobytes(),
            *display,
            *raw,
        ]
    )


def unpack(blob: bytes) -> Vocabulary:
    """The vocabulary that `pack` packed."""
    kind, n_tokens, n_special = _HEAD.unpack_from(blob)
    if kind != FORMAT:
        raise ValueError(
            f"A vocabulary is packed in format {kind}; this version reads format {FORMAT}. "
            "Register the model again."
        )
    lengths = np.frombuffer(blob, "<u4", 2 * n_tokens, _HEAD.size)
    special = np.frombuffer(blob, "<i4", n_special, _HEAD.size + lengths.nbytes)
    first = _HEAD.size + lengths.nbytes + special.nbytes
    ends = (first + np.cumsum(lengths, dtype=np.int64)).tolist()
    strings = [blob[start:end] for start, end in zip([first, *ends], ends, strict=False)]
    return Vocabulary(
        display=[string.decode() for string in strings[:n_tokens]],
        raw=strings[n_tokens:],
        special=special.tolist(),
    )


def of_model(shelf: Shelf, connect: Connect, model_id: str, fingerprint: str) -> Vocabulary:
    """The vocabulary of a registered model, kept in memory by the model's fingerprint; `connect`
    is called when it is not there yet."""
    query = select(vocabularies.c.packed).where(vocabularies.c.model_id == model_id)
    return _kept(shelf, connect, query, fingerprint, f"Model '{model_id}' was deleted meanwhile.")


def of_corpus(shelf: Shelf, connect: Connect, number: int, fingerprint: str) -> Vocabulary:
    """The token strings that imported examples came with, kept as those of models are."""
    query = select(corpus_vocabularies.c.packed).where(corpus_vocabularies.c.corpus == number)
    return _kept(shelf, connect, query, fingerprint, "This evidence was deleted meanwhile.")


def _kept(shelf: Shelf, connect: Connect, query: Select, fingerprint: str, gone: str) -> Vocabulary:
    found = shelf.vocabularies.get(fingerprint)  # another thread may make room meanwhile
    if found is None:
        with connect() as connection:
            packed = connection.execute(query).scalar()
        if packed is None:
            raise Gone(gone)
        found = unpack(packed)
        for oldest in list(shelf.vocabularies)[: 1 - KEPT]:
            shelf.vocabularies.pop(oldest, None)
        shelf.vocabularies[fingerprint] = found
    return found
