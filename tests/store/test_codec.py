"""Packed evidence: exact, small, and refused when it is of another format."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app.store import codec
from app.store.records import BANDS, Examples, FeatureBatch
from tests.store import builders

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def draw(data: st.DataObject, dtype: type, shape: tuple[int, ...], low: int = 0, high: int = 99):
    """A random array: any float32, or integers of a range with both ends included."""
    elements = FLOATS if dtype is np.float32 else st.integers(low, high)
    return data.draw(hnp.arrays(dtype, shape, elements=elements))


def examples(data: st.DataObject, n: int) -> Examples:
    """Any windows of any features: none, overlapping, of one token, without an active value."""
    per_feature = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    feature = np.repeat(np.arange(n, dtype=np.int32), per_feature)
    e = len(feature)
    band = draw(data, np.int8, (e,), 0, len(BANDS) - 1)
    length = draw(data, np.int16, (e,), 1, 256)
    active = [data.draw(st.sets(st.integers(0, int(size) - 1), max_size=6)) for size in length]
    positions = np.array([p for window in active for p in sorted(window)], np.uint8)
    return Examples(
        feature=feature,
        band=band[np.lexsort((band, feature))],
        sequence=draw(data, np.int32, (e,), 0, 2**31 - 1),
        offset=draw(data, np.int32, (e,), 0, 2**31 - 1),
        length=length,
        peak=draw(data, np.int16, (e,), 0, 32767),
        values_start=np.cumsum([0, *map(len, active)]),
        value_position=positions,
        value=draw(data, np.float32, (len(positions),)),
    )


@st.composite
def batches(draw_from: st.DrawFn) -> FeatureBatch:
    """Any batch."""
    data = draw_from(st.data())
    n = draw_from(st.integers(1, 4))
    bins, logits, near, mixed, spread, others = (draw_from(st.integers(0, 3)) for _ in range(6))
    pairs = [(draw(data, np.int32, (n, w)), draw(data, np.float32, (n, w))) for w in (logits,) * 2]
    return dataclasses.replace(
        builders.batch(builders.corpus(), 0, n),
        histogram_edges=draw(data, np.float32, (n, bins + 1)),
        histogram_counts=draw(data, np.int64, (n, bins), 0, 2**62),
        examples=examples(data, n),
        top_logits=pairs[0],
        bottom_logits=pairs[1],
        logit_range=np.sort(draw(data, np.float32, (n, 2)), axis=1),
        logit_counts=draw(data, np.int32, (n, spread), 0, 2**31 - 1),
        coactive=(draw(data, np.int32, (n, others)), draw(data, np.int32, (n, others), 0, 3)),
        neighbors=(draw(data, np.int32, (n, near)), draw(data, np.float32, (n, near))),
        neurons=(
            draw(data, np.int32, (n, mixed)),
            draw(data, np.int32, (n, mixed)),
            draw(data, np.float32, (n, mixed)),
        ),
    )


@given(batches())
def test_every_number_comes_back_as_it_was(batch: FeatureBatch) -> None:
    for row, blob in enumerate(codec.pack(batch)):
        found = codec.unpack(blob)
        assert found.histogram_edges == tuple(batch.histogram_edges[row].tolist())
        assert found.histogram_counts == tuple(batch.histogram_counts[row].tolist())
        for name in ("top_logits", "bottom_logits", "neighbors", "neurons"):
            columns = [column[row].tolist() for column in getattr(batch, name)]
            assert getattr(found, name) == list(zip(*columns, strict=True))
        assert found.logit_counts == tuple(batch.logit_counts[row].tolist())
        assert found.logit_edges[:: max(len(found.logit_counts), 1)] == (
            batch.logit_range[row].tolist() if found.logit_counts else []
        )
        others = zip(*(column[row].tolist() for column in batch.coactive), strict=True)
        assert found.coactive == [(feature, count) for feature, count in others if count]
        assert windows(found) == expected_windows(batch.examples, row)


def windows(found: codec.Evidence) -> list[tuple]:
    """The windows one by one."""
    columns = (found.band, found.sequence, found.offset, found.length, found.peak, found.values)
    return [
        (band, sequence, offset, length, peak, values[:length].tolist())
        for band, sequence, offset, length, peak, values in zip(*columns, strict=True)
        if not values[length:].any()
    ]


def expected_windows(given: Examples, row: int) -> list[tuple]:
    """The windows of one feature, by the plainest loop."""
    found = []
    for i in np.flatnonzero(given.feature == row):
        values = [0.0] * int(given.length[i])
        for v in range(given.values_start[i], given.values_start[i + 1]):
            values[given.value_position[v]] = float(given.value[v])
        numbers = (given.sequence[i], given.offset[i], given.length[i], given.peak[i])
        found.append((BANDS[given.band[i]], *map(int, numbers), values))
    return found


def test_a_usual_feature_takes_less_than_six_kilobytes() -> None:
    blobs = codec.pack(builders.batch(builders.corpus(), 0, 40))
    assert len(codec.unpack(blobs[0]).band) == 45
    assert max(map(len, blobs)) < 6_000


def test_another_format_is_refused() -> None:
    (blob,) = codec.pack(builders.batch(builders.corpus(), 0, 1))
    with pytest.raises(ValueError, match="format 1"):
        codec.unpack(b"\x01" + blob[1:])
