"""First labels: what a feature fires on, what it promotes."""

import numpy as np
import pytest

from app.store.records import Examples
from worker.precompute.labels import name_tokens, quote, write_labels
from worker.tokens import Sequences

SEED = 0
"""Of the sequences below, number 6 alone is held out."""
DISPLAY = [" a", " sea", " shell", " wave", " tide", "é", "\n\t"]


def examples(peaks: list[tuple[int, float, int]]) -> tuple[Examples, Sequences]:
    """Examples with one active token each: (token, value, band), all of feature 0."""
    n = len(peaks)
    tokens = np.array([[0, token, 0] for token, _, _ in peaks], dtype=np.uint16).reshape(-1)
    made = Examples(
        feature=np.zeros(n, np.int32),
        band=np.array([band for *_, band in peaks], np.int8),
        sequence=np.arange(n, dtype=np.int32),
        offset=np.full(n, 1, np.int32),
        length=np.full(n, 2, np.int16),
        peak=np.zeros(n, np.int16),
        values_start=np.arange(n + 1, dtype=np.int64),
        value_position=np.zeros(n, np.uint8),
        value=np.array([value for _, value, _ in peaks], np.float32),
    )
    return made, Sequences(tokens, np.arange(0, 3 * n + 1, 3, dtype=np.int64))


def label(peaks: list[tuple[int, float, int]], promoted: list[tuple[int, float]]) -> str:
    made, sequences = examples(peaks)
    ids = np.array([[token for token, _ in promoted]], np.int32)
    values = np.array([[value for _, value in promoted]], np.float32)
    return write_labels(name_tokens(made, sequences, (ids, values), SEED), quote(DISPLAY))[0]


NOTHING: list[tuple[int, float]] = []

CASES = {
    "frequent and strong": (
        [(1, 3.0, 0), (2, 2.0, 0), (1, 1.0, 0)], [(3, 2.0), (4, 1.0), (5, 0.9)],
        "fires on ` sea`, ` shell`; promotes ` wave`, ` tide`",
    ),
    "three at most": (
        [(4, 1.0, 0), (3, 1.0, 0), (2, 1.0, 0), (1, 1.0, 0)], NOTHING,
        "fires on ` sea`, ` shell`, ` wave`",
    ),
    "bands do not count": ([(1, 1.0, 0), (2, 9.0, 1)], NOTHING, "fires on ` sea`"),
    "no single token": (
        [(token, 1.0, 0) for token in range(6)], NOTHING, "fires on ` a` and others",
    ),
    "suppressing only": ([(1, 1.0, 0)], [(3, -1.0), (4, -2.0)], "fires on ` sea`"),
    "on one line": ([(6, 1.0, 0)], NOTHING, r"fires on `\n\t`"),
    "held out": (
        [(1, 1.0, 0)] * 6 + [(2, 9.0, 0)] + [(1, 1.0, 0)], NOTHING, "fires on ` sea`",
    ),
    "dead": ([], [(3, 1.0)], "never fires; promotes ` wave`"),
}  # fmt: skip


@pytest.mark.parametrize(("peaks", "promoted", "expected"), CASES.values(), ids=CASES)
def test_labels(
    peaks: list[tuple[int, float, int]], promoted: list[tuple[int, float]], expected: str
) -> None:
    assert label(peaks, promoted) == expected
