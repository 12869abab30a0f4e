"""A random sample of the examples that are stored of an SAE.

Features in random order, each as often as every other, and of each some of its windows at random.
"""

import numpy as np

from app.store import served
from app.store.codec import Evidence
from app.store.engine import Shelf
from app.store.served import ServedRun
from worker.stored_example import StoredExample


def draw(shelf: Shelf, run: ServedRun, examples: int, seed: int) -> list[StoredExample]:
    """So many examples of a run, fewer where features have fewer. The same seed draws the same.

    Raises:
        Conflict: a feature's evidence cannot be read, or names sequences that there are none of.
        Gone: the run was collected meanwhile.
    """
    random = np.random.default_rng(seed)
    features = random.permutation(served.active_features(shelf, run))[:examples]
    each, more = divmod(examples, max(len(features), 1))
    drawn: list[StoredExample] = []
    for place, index in enumerate(features.tolist()):
        maximum, evidence = served.evidence(shelf, run, index)
        windows = random.permutation(len(evidence.band))[: each + (place < more)]
        drawn += [_example(index, maximum, evidence, window) for window in windows.tolist()]
    for one in drawn:
        if not 0 <= one.sequence < run.n_sequences:
            raise one.misplaced()
    return drawn


def _example(index: int, maximum: float, evidence: Evidence, window: int) -> StoredExample:
    columns = (evidence.sequence, evidence.offset, evidence.length, evidence.peak)
    sequence, offset, length, peak = (int(column[window]) for column in columns)
    # A copy: the row of the table would keep all of the feature's windows in memory.
    values = evidence.values[window, :length].copy()
    largest = float(np.nanmax(evidence.values))
    return StoredExample(index, largest, sequence, offset, peak, values, maximum)
