"""Ties: the first of equal maxima in a sequence is its peak, the first of equal sequences leads."""

import pytest
import torch

from app.store.records import Examples
from worker.precompute.examples import select_examples
from worker.precompute.gather import Merged, find_runs

Entry = tuple[int, int, float]
"""Sequence, position and value."""


def merged(entries: list[Entry]) -> Merged:
    """Entries of one feature."""
    sequence, position, value = (list(column) for column in zip(*entries, strict=True))
    return Merged(
        torch.tensor([len(entries)]),
        torch.zeros(len(entries), dtype=torch.int32),
        torch.tensor(sequence, dtype=torch.int32),
        torch.tensor(position, dtype=torch.int32),
        torch.tensor(value),
    )


def top(parts: list[list[Entry]]) -> tuple[list[int], list[int]]:
    """Sequences and peaks (in the sequence) of the top examples; sequences have 100 tokens."""
    made = [merged(part) for part in parts]
    lengths = torch.full((10,), 100)
    examples: Examples = select_examples(made, find_runs(made), 1, lengths, 0, seed=0)
    first = examples.band == 0
    return (
        examples.sequence[first].tolist(),
        (examples.offset + examples.peak)[first].tolist(),
    )


TIED: list[Entry] = [(4, 2, 1.0), (4, 30, 3.0), (4, 31, 2.0), (4, 40, 3.0), (4, 90, 3.0)]


@pytest.mark.parametrize("cut", range(len(TIED)))
def test_the_first_of_equal_maxima_is_the_peak(cut: int) -> None:
    """Also when entries come in two parts."""
    parts = [part for part in (TIED[:cut], TIED[cut:]) if part]
    assert top(parts) == ([4], [30])


def test_every_sequence_has_its_own_first_maximum() -> None:
    entries = [(3, 7, 2.0), (3, 8, 2.0), *TIED, (5, 0, 1.0), (5, 99, 1.0), (6, 50, 0.5)]
    assert top([entries]) == ([4, 3, 5, 6], [30, 7, 0, 50])


def test_equally_strong_sequences_are_ranked_by_their_number() -> None:
    """Entries come as batches do: in order of length."""
    entries = [(7, 1, 2.0), (2, 1, 2.0), (9, 1, 5.0), (0, 1, 2.0), (1, 1, 1.0)]
    assert top([entries])[0] == [9, 0, 2, 7, 1]
    assert top([entries[:2], entries[2:]])[0] == [9, 0, 2, 7, 1]
