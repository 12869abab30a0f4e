"""The data order is a pure function of corpus, seed and position, and misses nothing."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.planted import random_sequences
from worker.tokens import Sequences
from worker.train.order import Order, hold_out, take

LENGTHS = np.array([3, 5, 1, 4, 2, 6])
ROWS = np.array([0, 1, 3, 4, 5])


def listed(order: Order, start: int, stop: int) -> list[tuple[int, int]]:
    """(sequence, token) at every position of the stream."""
    pieces = order.pieces(start, stop)
    columns = zip(pieces.sequence, pieces.first, pieces.last, strict=True)
    return [(int(s), t) for s, first, last in columns for t in range(first, last)]


def test_an_epoch_holds_every_token_once() -> None:
    order = Order(ROWS, LENGTHS, seed=0)
    assert order.epoch_tokens == 20
    for epoch in range(3):
        tokens = listed(order, 20 * epoch, 20 * epoch + 20)
        assert sorted(tokens) == [(int(r), t) for r in ROWS for t in range(LENGTHS[r])]


def test_epochs_and_seeds_differ() -> None:
    order = Order(ROWS, LENGTHS, seed=0)
    first, second = listed(order, 0, 20), listed(order, 20, 40)
    assert first != second
    assert first != listed(Order(ROWS, LENGTHS, seed=1), 0, 20)


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 70), min_size=1, max_size=5))
def test_windows_join_to_the_stream_in_any_order(cuts: list[int]) -> None:
    whole = listed(Order(ROWS, LENGTHS, seed=3), 0, 70)
    borders = [0, *sorted(set(cuts) - {0, 70}), 70]
    windows = list(pairwise(borders))
    order = Order(ROWS, LENGTHS, seed=3)
    parts = {window: listed(order, *window) for window in reversed(windows)}
    assert list(chain.from_iterable(parts[window] for window in windows)) == whole


def test_a_tenth_is_held_out_spread_over_the_corpus() -> None:
    training, held_out = hold_out(np.full(100, 7))
    assert held_out.tolist() == list(range(9, 100, 10))
    assert sorted([*training, *held_out]) == list(range(100))


def test_no_more_is_held_out_than_evaluation_reads() -> None:
    lengths = np.full(20_000, 100)
    _, held_out = hold_out(lengths)
    assert lengths[held_out].sum() == 50_000
    assert held_out[0] < 100 and held_out[-1] > 19_900


def test_a_small_corpus_still_holds_one_out() -> None:
    training, held_out = hold_out(np.array([4, 0, 4]))
    assert (training.tolist(), held_out.tolist()) == ([0], [2])


@pytest.mark.parametrize("rows", [[2, 0, 2], []])
def test_take_keeps_the_order_asked_for(rows: list[int]) -> None:
    sequences = random_sequences(count=5)
    taken = take(sequences, np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    for position, row in enumerate(rows):
        assert tokens(taken, position) == tokens(sequences, row)


def tokens(sequences: Sequences, row: int) -> list[int]:
    return sequences.flat[sequences.offsets[row] : sequences.offsets[row + 1]].tolist()
