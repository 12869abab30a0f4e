"""Entries on disk between the pass over tokens and the pass over features.

    spill_dir/identity.json            what the entries belong to
    spill_dir/shard-00000/             one folder a shard, there whole or not at all
        shard.json                     its number of counted tokens
        {id}.place  {id}.value         int32 and float32 entries of a dictionary, segment by segment
        {id}.starts                    int64 [segments, d_sae + 1]: where each feature begins
        {id}.minimum                   float32 [d_sae], signed dictionaries only

A segment is sorted by feature, stably, so a range of features is a slice of it; features are not
written, `starts` says them. An entry takes 8 bytes.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from worker.durable import sync, write_folder
from worker.precompute.forward import Encoded, Entries
from worker.precompute.plan import Shard
from worker.saes import Dictionary

ENTRY_BYTES = 8
START_BYTES = 8


class Slice(NamedTuple):
    """A range of features of one segment."""

    first: int
    """Sequence that places count from."""
    counts: Int[np.ndarray, " features"]
    """Entries of each feature."""
    place: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]


class ShardWriter:
    """Takes the entries of a shard, in the folder that becomes it."""

    def __init__(
        self, folder: Path, dictionaries: Sequence[Dictionary], segment_entries: int
    ) -> None:
        self._folder, self._limit = folder, segment_entries
        self._held: dict[str, list[Entries]] = {one.id: [] for one in dictionaries}
        self._dictionaries = {one.id: one for one in dictionaries}
        self._written = dict.fromkeys(self._held, 0)
        self._minimum: dict[str, torch.Tensor] = {}

    def add(self, encoded: Encoded) -> int:
        """Hold entries until they make a segment; returns how many they are."""
        name = encoded.dictionary.id
        self._held[name].append(encoded.entries)
        if encoded.minimum is not None:
            old = self._minimum.get(name, encoded.minimum)
            self._minimum[name] = torch.minimum(old, encoded.minimum)
        if sum(len(held.value) for held in self._held[name]) >= self._limit:
            self._write_segment(name)
        return len(encoded.entries.value)

    def close(self, tokens: int) -> None:
        """Write what is held, and that the shard has so many counted tokens."""
        for name in self._held:
            self._write_segment(name)
        for name, minimum in self._minimum.items():
            self._append(name, "minimum", minimum)
        (self._folder / "shard.json").write_text(json.dumps({"tokens": tokens}))

    def _write_segment(self, name: str) -> None:
        held, self._held[name] = self._held[name], []
        if not held:
            return
        feature, place, value = (torch.cat(column) for column in zip(*held, strict=True))
        counts = torch.bincount(feature, minlength=self._dictionaries[name].d_sae)
        order = feature.int().sort(stable=True).indices
        self._append(name, "place", place.index_select(0, order))
        self._append(name, "value", value.index_select(0, order))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]) + self._written[name]
        self._append(name, "starts", starts)
        self._written[name] += len(value)

    def _append(self, name: str, column: str, values: torch.Tensor) -> None:
        with (self._folder / f"{name}.{column}").open("ab") as file:
            values.cpu().numpy().tofile(file)


class Spill:
    """The complete shards in `folder`."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Shards that belong to another `identity` are thrown away, and those half-written."""
        self._folder = folder
        written = json.dumps(identity, sort_keys=True)
        file = folder / "identity.json"
        if folder.exists() and not (file.exists() and file.read_text() == written):
            _discard(folder, file)
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _write_whole(file, written)
        for left in folder.glob(".shard-*"):
            shutil.rmtree(left)

    def has(self, shard: Shard) -> bool:
        return self._path(shard).is_dir()

    def write(self, shard: Shard, fill: Callable[[Path], None]) -> None:
        """Let `fill` write a shard's files; they count once it has returned."""
        write_folder(self._path(shard), fill)

    def tokens(self, shard: Shard) -> int:
        """Tokens of a shard that count."""
        return json.loads((self._path(shard) / "shard.json").read_text())["tokens"]

    def counts(self, shard: Shard, dictionary: Dictionary) -> Int[np.ndarray, " d_sae"]:
        """Entries of each feature in a shard."""
        total = np.zeros(dictionary.d_sae, dtype=np.int64)
        for counts in self._segment_counts(shard, dictionary, 0, dictionary.d_sae):
            total += counts[1]
        return total

    def minimum(self, shard: Shard, dictionary: Dictionary) -> Float[np.ndarray, " d_sae"]:
        """Most negative value of each feature in a shard; 0 where there is none."""
        file = self._path(shard) / f"{dictionary.id}.minimum"
        if not file.exists():
            return np.zeros(dictionary.d_sae, dtype=np.float32)
        return np.fromfile(file, np.float32)

    def slices(
        self, shard: Shard, dictionary: Dictionary, first: int, stop: int
    ) -> Iterator[Slice]:
        """The entries of features `first` to `stop`, segment by segment as they were written."""
        segments = list(self._segment_counts(shard, dictionary, first, stop))
        if not segments:
            return
        base = self._path(shard) / dictionary.id
        with open(f"{base}.place", "rb") as places, open(f"{base}.value", "rb") as values:
            for begin, counts in segments:
                size = int(counts.sum())
                place = _read(places, np.int32, begin, size)
                yield Slice(shard.first, counts, place, _read(values, np.float32, begin, size))

    def _segment_counts(
        self, shard: Shard, dictionary: Dictionary, first: int, stop: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Of each segment, where its slice begins and how many entries each feature has there."""
        file = self._path(shard) / f"{dictionary.id}.starts"
        row = dictionary.d_sae + 1
        with file.open("rb") as starts:
            for segment in range(file.stat().st_size // (START_BYTES * row)):
                at = _read(starts, np.int64, segment * row + first, stop - first + 1)
                yield int(at[0]), np.diff(at)

    def _path(self, shard: Shard) -> Path:
        return self._folder / f"shard-{shard.index:05d}"


def _read(file: BinaryIO, dtype: type[np.number], begin: int, size: int) -> np.ndarray:
    """`size` numbers from number `begin` on; never mapped, so that memory stays bounded."""
    file.seek(begin * np.dtype(dtype).itemsize)
    return np.fromfile(file, dtype, size)


def _discard(folder: Path, identity: Path) -> None:
    """Delete `folder`; its identity first, so that no rest of it is ever taken for shards."""
    identity.unlink(missing_ok=True)
    sync(folder)
    shutil.rmtree(folder)


def _write_whole(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(file)
