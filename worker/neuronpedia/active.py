"""Values other than 0 of a page's windows: what the shelf stores of them."""

from typing import NamedTuple

import numpy as np

from app.rows.page import Window


class Active(NamedTuple):
    """One window after another."""

    starts: np.ndarray
    """int64 [windows + 1]: where each window begins in the next two."""
    positions: np.ndarray
    """int64 [n], in their windows."""
    values: np.ndarray
    """float32 [n]"""


def active(windows: list[Window]) -> Active:
    """Of windows in their order."""
    ends = np.array([len(window.values) for window in windows], np.int64).cumsum()
    values = np.concatenate([np.zeros(0, np.float32), *[window.values for window in windows]])
    found = np.flatnonzero(values)
    starts = np.append(0, np.searchsorted(found, ends))
    begins = np.append(0, ends)[:-1].repeat(np.diff(starts))
    return Active(starts, found - begins, values[found])
