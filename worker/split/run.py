"""Splitting the neurons of a layer, a block at a time: a block is the unit of resume."""

import time
from collections.abc import Iterable

from app.store.codec import Evidence
from app.store.split_records import NeuronSplit
from worker.models import LanguageModel
from worker.precompute.settings import PER_QUANTILE, QUANTILES, TOP, Settings
from worker.progress import Progress
from worker.saes import Dictionary
from worker.split.contributions import take_apart
from worker.split.peaks import find_peaks
from worker.split.shares import sum_up
from worker.tokens import Sequences

_PARTS = 2**22
"""About how many contributions are in memory at a time ..."""
_NEURONS = 2**12
"""... of how many neurons at most."""


def blocks(neurons: int, l0: float) -> list[tuple[int, int]]:
    """Ranges (first, stop) of a layer's neurons, for an SAE with so many active features a token."""
    examples = TOP + QUANTILES * PER_QUANTILE
    size = max(1, min(_NEURONS, int(_PARTS / (examples * max(l0, 1)))))
    return [(first, min(first + size, neurons)) for first in range(0, neurons, size)]


def split_block(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    evidence: Iterable[tuple[int, Evidence]],
    block: tuple[int, int],
    on_progress: Progress,
) -> list[NeuronSplit]:
    """The splits of a block of neurons by a dictionary that writes where it reads.

    `evidence` are the neurons' in ascending order, of examples in `sequences`. Reports phase `split`
    in neurons of the layer. Raises `Invalid` when the model's activations are not finite.
    """
    first, stop = block
    started, neurons = time.monotonic(), float(dictionary.d_in)

    def on_batch(done: int, total: int) -> None:
        so_far = (stop - first) * done / total
        rate = so_far / max(time.monotonic() - started, 1e-9)
        on_progress("split", first + so_far, neurons, rate)

    peaks = find_peaks(evidence)
    batch_tokens = Settings.on(model.device).batch_tokens
    parts = take_apart(model, dictionary, sequences, peaks, batch_tokens, on_batch)
    return sum_up(peaks, parts, first, stop)
