"""Entries on disk between the pass over tokens and the pass over features.

    spill_dir/{dictionary}/{identity}/     what a dictionary gave, under one model and settings
        {shard}/                           one folder a shard, there whole or not at all
            shard.json                     its number of counted tokens; size and CRC of its files
            place  value                   int32 and float32 entries, segment by segment
            starts                         int64 [segments, d_sae + 1]: where each feature begins
            minimum                        float32 [d_sae], signed dictionaries only

Shards are named by their tokens, so a run over more text finds those that it shares with an earlier
one, and spills only the others.

They may be kept for long, so what an earlier run left is checked against its CRC before it is used,
and a damaged shard counts as absent.

A segment is sorted by feature, stably, so a range of features is a slice of it; features are not
written, `starts` says them. An entry takes 8 bytes.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from isal import isal_zlib
from jaxtyping import Float, Int

from worker.durable import is_there, new_folder, remove_folder
from worker.precompute.appender import Appender
from worker.precompute.forward import Encoded, Entries
from worker.precompute.plan import Shard
from worker.saes import Dictionary
from worker.tokens import Sequences

log = logging.getLogger(__name__)

ENTRY_BYTES = 8
START_BYTES = 8
_FACTS = "shard.json"
_CRC_BLOCK = 2**20


class Slice(NamedTuple):
    """A range of features of one segment."""

    first: int
    """Sequence that places count from."""
    counts: Int[np.ndarray, " features"]
    """Entries of each feature."""
    place: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]


class ShardWriter:
    """Takes the entries of one dictionary in a shard, in the folder that becomes it."""

    def __init__(
        self, folder: Path, dictionary: Dictionary, segment_entries: int, appender: Appender
    ) -> None:
        self._folder, self._d_sae, self._limit = folder, dictionary.d_sae, segment_entries
        self._appender = appender
        self._held: list[Entries] = []
        self._n_held = self._written = 0
        self._minimum: torch.Tensor | None = None

    def add(self, encoded: Encoded) -> int:
        """Hold entries until they make a segment; returns how many they are."""
        n = len(encoded.entries.value)
        self._held.append(encoded.entries)
        self._n_held += n
        if encoded.minimum is not None:
            old = encoded.minimum if self._minimum is None else self._minimum
            self._minimum = torch.minimum(old, encoded.minimum)
        if self._n_held >= self._limit:
            self._write_segment()
        return n

    def close(self, tokens: int) -> None:
        """Write what is held, and that the shard has so many counted tokens."""
        self._write_segment()
        if self._minimum is not None:
            self._append("minimum", self._minimum)
        self._appender.settle()
        facts = {"tokens": tokens, "files": _checks(self._folder)}
        (self._folder / _FACTS).write_text(json.dumps(facts))

    def _write_segment(self) -> None:
        held, self._held, self._n_held = self._held, [], 0
        if not held:
            return
        feature, place, value = (torch.cat(column) for column in zip(*held, strict=True))
        counts = torch.bincount(feature, minlength=self._d_sae)
        order = feature.int().sort(stable=True).indices
        self._append("place", place.index_select(0, order))
        self._append("value", value.index_select(0, order))
        self._append("starts", torch.cat([counts.new_zeros(1), counts.cumsum(0)]) + self._written)
        self._written += len(value)

    def _append(self, column: str, values: torch.Tensor) -> None:
        self._appender.append(self._folder / column, values)


class Spill:
    """The complete shards of one dictionary."""

    def __init__(
        self, folder: Path, dictionary: Dictionary, identity: dict[str, Any], sequences: Sequences
    ) -> None:
        """`identity` is all that entries depend on besides dictionary and tokens."""
        written = json.dumps(identity, sort_keys=True).encode()
        of_dictionary = folder / dictionary.fingerprint[:16]
        self.folder = of_dictionary / hashlib.sha256(written).hexdigest()[:16]
        self.dictionary, self._sequences = dictionary, sequences
        self._names: dict[Shard, str] = {}

    def has(self, shard: Shard) -> bool:
        """Whether a shard is there, undamaged; a damaged one is removed."""
        path = self._path(shard)
        if not is_there(path):
            return False
        if _is_intact(path):
            return True
        log.warning("The spilled shard %s is damaged; it is computed again", path)
        remove_folder(path)
        return False

    def new(self, shard: Shard) -> AbstractContextManager[Path]:
        """A folder for a shard's files; they count once the block ends."""
        return new_folder(self._path(shard))

    def tokens(self, shard: Shard) -> int:
        """Tokens of a shard that count."""
        return json.loads((self._path(shard) / _FACTS).read_text())["tokens"]

    def counts(self, shard: Shard) -> Int[np.ndarray, " d_sae"]:
        """Entries of each feature in a shard."""
        total = np.zeros(self.dictionary.d_sae, dtype=np.int64)
        for counts in self._segment_counts(shard, 0, self.dictionary.d_sae):
            total += counts[1]
        return total

    def minimum(self, shard: Shard) -> Float[np.ndarray, " d_sae"]:
        """Most negative value of each feature in a shard; 0 where there is none."""
        file = self._path(shard) / "minimum"
        if not file.exists():
            return np.zeros(self.dictionary.d_sae, dtype=np.float32)
        return np.fromfile(file, np.float32)

    def slices(self, shard: Shard, first: int, stop: int) -> Iterator[Slice]:
        """The entries of features `first` to `stop`, segment by segment as they were written."""
        segments = list(self._segment_counts(shard, first, stop))
        if not segments:
            return
        folder = self._path(shard)
        with (folder / "place").open("rb") as places, (folder / "value").open("rb") as values:
            for begin, counts in segments:
                size = int(counts.sum())
                place = _read(places, np.int32, begin, size)
                yield Slice(shard.first, counts, place, _read(values, np.float32, begin, size))

    def _segment_counts(
        self, shard: Shard, first: int, stop: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Of each segment, where its slice begins and how many entries each feature has there."""
        file = self._path(shard) / "starts"
        row = self.dictionary.d_sae + 1
        with file.open("rb") as starts:
            for segment in range(file.stat().st_size // (START_BYTES * row)):
                at = _read(starts, np.int64, segment * row + first, stop - first + 1)
                yield int(at[0]), np.diff(at)

    def _path(self, shard: Shard) -> Path:
        if shard not in self._names:
            self._names[shard] = _fingerprint(self._sequences, shard)
        return self.folder / self._names[shard]


def _fingerprint(sequences: Sequences, shard: Shard) -> str:
    """Names a shard by its tokens and how they are cut."""
    offsets = sequences.offsets[shard.first : shard.stop + 1]
    digest = hashlib.sha256((offsets - offsets[0]).astype("<i8").tobytes())
    digest.update(sequences.flat[offsets[0] : offsets[-1]].astype("<i4").tobytes())
    return digest.hexdigest()[:24]


def _checks(folder: Path) -> dict[str, list[int]]:
    """Size and CRC-32 of the columns of a shard."""
    return {
        path.name: [path.stat().st_size, _crc(path)]
        for path in sorted(folder.iterdir())
        if path.name != _FACTS
    }


def _is_intact(folder: Path) -> bool:
    try:
        return json.loads((folder / _FACTS).read_text())["files"] == _checks(folder)
    except (OSError, ValueError, KeyError):
        return False


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_CRC_BLOCK):
            crc = isal_zlib.crc32(block, crc)
    return crc


def _read(file: BinaryIO, dtype: type[np.number], begin: int, size: int) -> np.ndarray:
    """`size` numbers from number `begin` on; never mapped, so that memory stays bounded."""
    file.seek(begin * np.dtype(dtype).itemsize)
    return np.fromfile(file, dtype, size)
