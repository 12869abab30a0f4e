"""What stands around an example in its sequence."""

import numpy as np

from app.store import find
from app.store.engine import Shelf

AROUND = 80
"""Tokens on either side."""


def surroundings(
    shelf: Shelf, run_id: str, sequence: int, offset: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids before and behind a window, at most `AROUND` each.

    Raises:
        NotFound, Gone: the run or its corpus was deleted.
    """
    with shelf.read() as connection:
        stored = find.corpus_of(connection, find.run(connection, run_id))
    (ids,) = shelf.corpus(stored).sequences(shelf.read, np.array([sequence]))
    end = offset + length
    return ids[max(0, offset - AROUND) : offset], ids[end : end + AROUND]
