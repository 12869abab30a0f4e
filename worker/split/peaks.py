"""The peaks of neurons' stored examples."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from app.store.codec import Evidence


class Peaks(NamedTuple):
    """Tokens at which neurons were strongest in some text, by neuron, then by window."""

    neuron: Int[np.ndarray, " peaks"]
    window: Int[np.ndarray, " peaks"]
    """Place of the example among the neuron's windows."""
    sequence: Int[np.ndarray, " peaks"]
    position: Int[np.ndarray, " peaks"]


def find_peaks(evidence: Iterable[tuple[int, Evidence]]) -> Peaks:
    """The peaks of neurons in ascending order. A text that is shown twice, as a top example and in
    a rank band, counts once, as the first."""
    parts = [_of_one(neuron, of) for neuron, of in evidence]
    columns = zip(*parts, strict=True) if parts else [[np.zeros(0, np.int64)]] * 4
    return Peaks(*(np.concatenate(list(column)) for column in columns))


def _of_one(neuron: int, of: Evidence) -> Peaks:
    window = np.sort(np.unique(of.sequence, return_index=True)[1])
    position = of.offset.astype(np.int64) + np.array(of.peak, np.int64)
    return Peaks(
        np.full(len(window), neuron, np.int64),
        window,
        of.sequence[window].astype(np.int64),
        position[window],
    )
