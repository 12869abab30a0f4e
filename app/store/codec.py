"""The packed evidence of one feature: all of a `FeatureBatch` row but its statistics and label.

Format 1, little-endian, no padding: a header of eight numbers (`HEADER`), then
    int64    histogram counts [bins]
    float32  histogram edges [bins + 1]; values of top logits, of bottom logits; cosines of
             neighbors; weights of neurons
    int32    tokens of top logits, of bottom logits; indices of neighbors; layers of neurons,
             indices of neurons
    int32    per example its sequence; its offset
    uint16   per example its length; its peak; its number of active values
    int8     per example its band
    float32  active values, example by example
    uint8    their positions in their windows
Values are exact. Tokens are not in it: a window is (sequence, offset, length) in the corpus.

Packing turns each column of a batch into bytes once and joins slices of them per feature;
unpacking reads each of the lines above at once. So both cost a few operations a feature.
"""

import struct
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from app.store.records import BANDS, FeatureBatch

FORMAT = 1

HEADER = struct.Struct("<B5H2I")
"""Format; histogram bins; top logits, bottom logits, neighbors, neurons; examples; values."""


@dataclass(frozen=True)
class Evidence:
    """What a blob holds. Pairs are ordered as they were packed; E windows of T tokens together."""

    histogram_edges: list[float]
    histogram_counts: list[int]
    top_logits: list[tuple[int, float]]
    bottom_logits: list[tuple[int, float]]
    neighbors: list[tuple[int, float]]
    neurons: list[tuple[int, int, float]]
    band: list[str]
    """[E]"""
    sequence: np.ndarray
    """int32 [E]"""
    offset: np.ndarray
    """int32 [E]"""
    length: np.ndarray
    """uint16 [E]"""
    peak: list[int]
    """[E]"""
    values: list[float]
    """[T]: one per token of every window, window after window."""


def pack(batch: FeatureBatch) -> list[bytes]:
    """Pack every feature of a batch, in order."""
    rows = np.arange(len(batch.labels) + 1)
    examples = batch.examples
    first_example = np.searchsorted(examples.feature, rows)
    first_value = examples.values_start[first_example]
    fixed = _fixed_part(batch)
    per_example = (
        (examples.sequence, "<i4"),
        (examples.offset, "<i4"),
        (examples.length, "<u2"),
        (examples.peak, "<u2"),
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
    widths = _widths(batch)
    sizes = zip(np.diff(first_example).tolist(), np.diff(first_value).tolist(), strict=True)
    return [
        HEADER.pack(FORMAT, *widths, *size)
        + b"".join([data[starts[row] : starts[row + 1]] for data, starts in slices])
        for row, size in enumerate(sizes)
    ]


def _widths(batch: FeatureBatch) -> list[int]:
    """The second to sixth number of the header."""
    columns = (
        batch.histogram_counts,
        batch.top_logits[0],
        batch.bottom_logits[0],
        batch.neighbors[0],
        batch.neurons[0],
    )
    return [column.shape[1] for column in columns]


def _section(column: np.ndarray, dtype: str, starts: np.ndarray) -> tuple[bytes, np.ndarray]:
    """A ragged column as bytes, and where each feature begins in them."""
    return column.astype(dtype).tobytes(), starts * np.dtype(dtype).itemsize


def _fixed_part(batch: FeatureBatch) -> np.ndarray:
    """uint8 [F, bytes]: all columns that are equally wide in every feature."""
    columns = [
        (batch.histogram_counts, "<i8"),
        (batch.histogram_edges, "<f4"),
        (batch.top_logits[1], "<f4"),
        (batch.bottom_logits[1], "<f4"),
        (batch.neighbors[1], "<f4"),
        (batch.neurons[2], "<f4"),
        (batch.top_logits[0], "<i4"),
        (batch.bottom_logits[0], "<i4"),
        (batch.neighbors[0], "<i4"),
        (batch.neurons[0], "<i4"),
        (batch.neurons[1], "<i4"),
    ]
    parts = [_bytes_of(column, dtype) for column, dtype in columns]
    return np.concatenate(parts, axis=1)


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
    _, bins, top, bottom, neighbors, neurons, n_examples, n_values = HEADER.unpack_from(blob)
    read = _Reader(blob, HEADER.size)
    (counts,) = read.lists("<i8", bins)
    edges, *numbers = read.lists("<f4", bins + 1, top, bottom, neighbors, neurons)
    ids = read.lists("<i4", top, bottom, neighbors, neurons, neurons)
    sequence, offset = read("<i4", 2 * n_examples).reshape(2, n_examples)
    length, peak, active = read("<u2", 3 * n_examples).reshape(3, n_examples)
    (band,) = read.lists("i1", n_examples)
    value, position = read("<f4", n_values), read("u1", n_values)
    return Evidence(
        histogram_edges=edges,
        histogram_counts=counts,
        top_logits=list(zip(ids[0], numbers[0], strict=True)),
        bottom_logits=list(zip(ids[1], numbers[1], strict=True)),
        neighbors=list(zip(ids[2], numbers[2], strict=True)),
        neurons=list(zip(ids[3], ids[4], numbers[3], strict=True)),
        band=[BANDS[number] for number in band],
        sequence=sequence,
        offset=offset,
        length=length,
        peak=peak.tolist(),
        values=_dense(length, active, position, value).tolist(),
    )


class _Reader:
    """Reads arrays off a blob, one after another."""

    def __init__(self, blob: bytes, at: int) -> None:
        self._blob, self._at = blob, at

    def __call__(self, dtype: str, n: int) -> np.ndarray:
        found = np.frombuffer(self._blob, dtype, n, self._at)
        self._at += found.nbytes
        return found

    def lists(self, dtype: str, *widths: int) -> list[list]:
        """Lists of those widths that follow each other in one number format."""
        flat, ends = self(dtype, sum(widths)).tolist(), [*accumulate(widths)]
        return [flat[end - width : end] for end, width in zip(ends, widths, strict=True)]


def _dense(
    length: np.ndarray, active: np.ndarray, position: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """float32 [T]: the windows' values with their zeros."""
    dense = np.zeros(int(length.sum()), np.float32)
    first = np.cumsum(length, dtype=np.int64) - length
    dense[np.repeat(first, active) + position] = value
    return dense
