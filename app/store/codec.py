"""The packed evidence of one feature: all of a `FeatureBatch` row but its statistics and label.

Format 1, little-endian, no padding. A header of ten numbers (`HEADER`), then
    histogram   float32 edges [bins + 1], int64 counts [bins]
    logits      int32 tokens [top], float32 values [top]; the same for bottom
    neighbors   int32 indices [n], float32 cosines [n]
    neurons     int32 layers [n], int32 indices [n], float32 weights [n]
    examples    int32 sequence [E], int32 offset [E], int16 length [E], int16 peak [E],
                uint16 active values [E], int8 band [E]
    values      float32 [V], uint8 position in the window [V]
Values are exact. Tokens are not in it: a window is (sequence, offset, length) in the corpus.

Packing turns each column of a batch into bytes once and joins slices of them per feature, so the
cost per feature is a few slices whatever it holds.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.store.records import BANDS, FeatureBatch

FORMAT = 1

HEADER = np.dtype(
    [
        ("format", "u1"),
        ("bins", "<u2"),
        ("top", "<u2"),
        ("bottom", "<u2"),
        ("neighbors", "<u2"),
        ("neurons", "<u2"),
        ("examples", "<u4"),
        ("values", "<u4"),
    ]
)


class Window(NamedTuple):
    """One example without its tokens."""

    band: str
    sequence: int
    offset: int
    peak: int
    values: list[float]
    """One per token of the window."""


@dataclass(frozen=True)
class Evidence:
    """What a blob holds. Pairs are ordered as they were packed."""

    histogram_edges: list[float]
    histogram_counts: list[int]
    top_logits: list[tuple[int, float]]
    bottom_logits: list[tuple[int, float]]
    neighbors: list[tuple[int, float]]
    neurons: list[tuple[int, int, float]]
    windows: list[Window]


def pack(batch: FeatureBatch) -> list[bytes]:
    """Pack every feature of a batch, in order."""
    rows = np.arange(len(batch.labels) + 1)
    examples = batch.examples
    first_example = np.searchsorted(examples.feature, rows)
    first_value = examples.values_start[first_example]
    fixed = _fixed_part(batch, np.diff(first_example), np.diff(first_value))
    per_example = (
        (examples.sequence, "<i4"),
        (examples.offset, "<i4"),
        (examples.length, "<i2"),
        (examples.peak, "<i2"),
        (np.diff(examples.values_start), "<u2"),
        (examples.band, "i1"),
    )
    per_value = ((examples.value, "<f4"), (examples.value_position, "u1"))
    sections = [
        (fixed.tobytes(), rows * fixed.shape[1]),
        *(_section(column, dtype, first_example) for column, dtype in per_example),
        *(_section(column, dtype, first_value) for column, dtype in per_value),
    ]
    slices = [(data, starts.tolist()) for data, starts in sections]
    return [
        b"".join([data[starts[row] : starts[row + 1]] for data, starts in slices])
        for row in range(len(batch.labels))
    ]


def _section(column: np.ndarray, dtype: str, starts: np.ndarray) -> tuple[bytes, np.ndarray]:
    """A ragged column as bytes, and where each feature begins in them."""
    return column.astype(dtype).tobytes(), starts * np.dtype(dtype).itemsize


def _fixed_part(batch: FeatureBatch, examples: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint8 [F, bytes]: header and all columns that are equally wide in every feature."""
    header = np.empty(len(batch.labels), HEADER)
    header["format"] = FORMAT
    header["bins"] = batch.histogram_counts.shape[1]
    header["top"] = batch.top_logits[0].shape[1]
    header["bottom"] = batch.bottom_logits[0].shape[1]
    header["neighbors"] = batch.neighbors[0].shape[1]
    header["neurons"] = batch.neurons[0].shape[1]
    header["examples"] = examples
    header["values"] = values
    ids, numbers = "<i4", "<f4"
    columns = [
        (batch.histogram_edges, numbers),
        (batch.histogram_counts, "<i8"),
        (batch.top_logits[0], ids),
        (batch.top_logits[1], numbers),
        (batch.bottom_logits[0], ids),
        (batch.bottom_logits[1], numbers),
        (batch.neighbors[0], ids),
        (batch.neighbors[1], numbers),
        (batch.neurons[0], ids),
        (batch.neurons[1], ids),
        (batch.neurons[2], numbers),
    ]
    parts = [_bytes_of(column, dtype) for column, dtype in columns]
    return np.concatenate([header.view("u1").reshape(len(header), HEADER.itemsize), *parts], axis=1)


def _bytes_of(column: np.ndarray, dtype: str) -> np.ndarray:
    """uint8 [F, width * itemsize] of a [F, width] column."""
    width = column.shape[1] * np.dtype(dtype).itemsize
    return np.frombuffer(column.astype(dtype).tobytes(), "u1").reshape(len(column), width)


def unpack(blob: bytes) -> Evidence:
    """Unpack one feature. ValueError names a format that this version does not know."""
    if blob[0] != FORMAT:
        raise ValueError(
            f"Evidence is packed in format {blob[0]}; this version reads format {FORMAT}. "
            "Use the version that wrote it, or precompute again."
        )
    _, bins, top, bottom, neighbors, neurons, n_examples, n_values = np.frombuffer(
        blob, HEADER, 1
    ).tolist()[0]
    read = _Reader(blob, HEADER.itemsize)
    ids, numbers = "<i4", "<f4"
    return Evidence(
        histogram_edges=read(numbers, bins + 1),
        histogram_counts=read("<i8", bins),
        top_logits=list(zip(read(ids, top), read(numbers, top), strict=True)),
        bottom_logits=list(zip(read(ids, bottom), read(numbers, bottom), strict=True)),
        neighbors=list(zip(read(ids, neighbors), read(numbers, neighbors), strict=True)),
        neurons=list(
            zip(read(ids, neurons), read(ids, neurons), read(numbers, neurons), strict=True)
        ),
        windows=_windows(read, n_examples, n_values),
    )


class _Reader:
    """Reads arrays off a blob, one after another."""

    def __init__(self, blob: bytes, at: int) -> None:
        self._blob, self._at = blob, at

    def array(self, dtype: str, n: int) -> np.ndarray:
        found = np.frombuffer(self._blob, dtype, n, self._at)
        self._at += found.nbytes
        return found

    def __call__(self, dtype: str, n: int) -> list:
        return self.array(dtype, n).tolist()


def _windows(read: _Reader, n_examples: int, n_values: int) -> list[Window]:
    sequence, offset = read("<i4", n_examples), read("<i4", n_examples)
    length = read.array("<i2", n_examples)
    peak = read("<i2", n_examples)
    active = read.array("<u2", n_examples)
    band = read("i1", n_examples)
    value, position = read.array("<f4", n_values), read.array("u1", n_values)
    stops = np.cumsum(length, dtype=np.int64)
    dense = np.zeros(int(stops[-1]) if n_examples else 0, np.float32)
    dense[np.repeat(stops - length, active) + position] = value
    flat, ends = dense.tolist(), stops.tolist()
    starts = [0, *ends]
    return [
        Window(BANDS[band[i]], sequence[i], offset[i], peak[i], flat[starts[i] : ends[i]])
        for i in range(n_examples)
    ]
