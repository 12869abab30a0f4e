"""The packed evidence of one feature: all of a `FeatureBatch` row but its statistics and label.

Formats 2 and 3, little-endian, no padding: a header of ten numbers (`HEADER`), then
    int64    histogram counts [bins]
    float32  histogram edges [bins + 1]; values of top logits, of bottom logits; cosines of
             neighbors; weights of neurons; lowest and highest logit, where they are counted
    int32    tokens of top logits, of bottom logits; indices of neighbors; layers of neurons,
             indices of neurons; counts of logits; indices of co-active features, their counts
    int32    per example its sequence; its offset
    uint16   per example its length; its peak; its number of active values
    int8     per example its band
    float32  active values, example by example
    uint8    their positions in their windows; uint16 in format 3, which imported examples of more
             than 256 tokens need
Values are exact. Tokens are not in it: a window is (sequence, offset, length) in the corpus.

Packing turns each column of a batch into bytes once and joins slices of them per feature;
unpacking reads all of the first three lines at once. So both cost a few operations a feature.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from app.store.records import BANDS, FeatureBatch

FORMAT = 2
WIDE = 3
"""Format with positions of two bytes."""

_POSITION = {FORMAT: "u1", WIDE: "<u2"}

HEADER = struct.Struct("<B7H2I")
"""Format; histogram bins; top logits, bottom logits, neighbors, neurons, bins of logits, co-active
features; examples; values."""


@dataclass(frozen=True)
class Evidence:
    """What a blob holds. Pairs are ordered as they were packed; E windows."""

    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]
    top_logits: list[tuple[int, float]]
    bottom_logits: list[tuple[int, float]]
    neighbors: list[tuple[int, float]]
    neurons: list[tuple[int, int, float]]
    logit_edges: list[float]
    logit_counts: tuple[int, ...]
    coactive: list[tuple[int, int]]
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
    values: np.ndarray
    """float32 [E, L], L the length of the longest window; zeros behind the end of a shorter one."""


def pack(batch: FeatureBatch) -> list[bytes]:
    """Pack every feature of a batch, in order."""
    rows = np.arange(len(batch.labels) + 1)
    examples = batch.examples
    first_example = np.searchsorted(examples.feature, rows)
    first_value = examples.values_start[first_example]
    fixed = _fixed_part(batch)
    kind = WIDE if examples.value_position.itemsize > 1 else FORMAT
    per_example = (
        (examples.sequence, "<i4"),
        (examples.offset, "<i4"),
        (examples.length, "<u2"),
        (examples.peak, "<u2"),
        (np.diff(examples.values_start), "<u2"),
        (examples.band, "i1"),
    )
    per_value = ((examples.value, "<f4"), (examples.value_position, _POSITION[kind]))
    sections = [
        (fixed.tobytes(), rows * fixed.shape[1]),
        *(_section(column, dtype, first_example) for column, dtype in per_example),
        *(_section(column, dtype, first_value) for column, dtype in per_value),
    ]
    slices = [(data, starts.tolist()) for data, starts in sections]
    widths = _widths(batch)
    sizes = zip(np.diff(first_example).tolist(), np.diff(first_value).tolist(), strict=True)
    return [
        HEADER.pack(kind, *widths, *size)
        + b"".join([data[starts[row] : starts[row + 1]] for data, starts in slices])
        for row, size in enumerate(sizes)
    ]


def _widths(batch: FeatureBatch) -> list[int]:
    """The second to eighth number of the header."""
    columns = (
        batch.histogram_counts,
        batch.top_logits[0],
        batch.bottom_logits[0],
        batch.neighbors[0],
        batch.neurons[0],
        batch.logit_counts,
        batch.coactive[0],
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
        (batch.logit_range[:, : 2 * bool(batch.logit_counts.shape[1])], "<f4"),
        (batch.top_logits[0], "<i4"),
        (batch.bottom_logits[0], "<i4"),
        (batch.neighbors[0], "<i4"),
        (batch.neurons[0], "<i4"),
        (batch.neurons[1], "<i4"),
        (batch.logit_counts, "<i4"),
        (batch.coactive[0], "<i4"),
        (batch.coactive[1], "<i4"),
    ]
    parts = [_bytes_of(column, dtype) for column, dtype in columns]
    return np.concatenate(parts, axis=1)


def _bytes_of(column: np.ndarray, dtype: str) -> np.ndarray:
    """uint8 [F, width * itemsize] of a [F, width] column."""
    width = column.shape[1] * np.dtype(dtype).itemsize
    return np.frombuffer(column.astype(dtype).tobytes(), "u1").reshape(len(column), width)


def unpack(blob: bytes) -> Evidence:
    """Unpack one feature. ValueError names a format that this version does not know."""
    if blob[0] not in _POSITION:
        raise ValueError(
            f"Evidence is packed in format {blob[0]}; this version reads formats {FORMAT} and {WIDE}. "
            "Use the version that wrote it, or precompute again."
        )
    _, *widths, n_examples, n_values = HEADER.unpack_from(blob)
    numbers, slices = _fixed_format(*widths)
    all_numbers = numbers.unpack_from(blob, HEADER.size)
    (counts, edges, top, bottom, cosines, weights, logit_range, *ids) = [
        all_numbers[part] for part in slices
    ]
    at = HEADER.size + numbers.size
    sequence, offset = np.frombuffer(blob, "<i4", 2 * n_examples, at).reshape(2, n_examples)
    at += 8 * n_examples
    length, peak, active = np.frombuffer(blob, "<u2", 3 * n_examples, at).reshape(3, n_examples)
    at += 6 * n_examples
    band = blob[at : at + n_examples]
    value = np.frombuffer(blob, "<f4", n_values, at + n_examples)
    position = np.frombuffer(blob, _POSITION[blob[0]], n_values, at + n_examples + value.nbytes)
    return Evidence(
        histogram_edges=edges,
        histogram_counts=counts,
        top_logits=list(zip(ids[0], top, strict=True)),
        bottom_logits=list(zip(ids[1], bottom, strict=True)),
        neighbors=list(zip(ids[2], cosines, strict=True)),
        neurons=list(zip(ids[3], ids[4], weights, strict=True)),
        logit_edges=_edges(logit_range, len(ids[5])),
        logit_counts=ids[5],
        coactive=[pair for pair in zip(ids[6], ids[7], strict=True) if pair[1]],
        band=[BANDS[number] for number in band],
        sequence=sequence,
        offset=offset,
        length=length,
        peak=peak.tolist(),
        values=_dense(length, active, position, value),
    )


@lru_cache
def _fixed_format(
    bins: int, top: int, bottom: int, neighbors: int, neurons: int, logit_bins: int, coactive: int
) -> tuple[struct.Struct, list[slice]]:
    """The numbers that every feature of a run has as many of, and where each column is in them."""
    floats = (bins + 1, top, bottom, neighbors, neurons, 2 * bool(logit_bins))
    ids = (top, bottom, neighbors, neurons, neurons, logit_bins, coactive, coactive)
    ends = accumulate((bins, *floats, *ids))
    columns = [slice(end - n, end) for end, n in zip(ends, (bins, *floats, *ids), strict=True)]
    return struct.Struct(f"<{bins}q{sum(floats)}f{sum(ids)}i"), columns


def _edges(bounds: tuple[float, ...], bins: int) -> list[float]:
    """Edges of `bins` bins of equal width, none without bins."""
    return np.linspace(bounds[0], bounds[1], bins + 1).tolist() if bins else []


def _dense(
    length: np.ndarray, active: np.ndarray, position: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """float32 [E, L]: the windows' values with their zeros."""
    dense = np.zeros((len(length), length.max(initial=0)), np.float32)
    dense[np.repeat(np.arange(len(length)), active), position] = value
    return dense
