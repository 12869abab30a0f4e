"""F1 of a rule that calls the tokens R, for a concept that holds of the tokens T: 2 |R ∩ T| / (|R| + |T|)."""

import numpy as np
from jaxtyping import Bool, Integer


def f1_of(called: Bool[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """2 |R ∩ T| / (|R| + |T|)."""
    return float(2 * (called & truth).sum() / max(called.sum() + truth.sum(), 1))


def best_ids(
    ids: Integer[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], size: int
) -> Bool[np.ndarray, " size"]:
    """The set of token ids, below `size`, that has the largest F1 on these tokens when it is called.

    Taking ids by falling share of the concept finds it exactly, since F1 is monotone in both counts.
    """
    total = np.bincount(ids, minlength=size)
    positive = np.bincount(ids[truth], minlength=size)
    order = np.argsort(-positive / np.maximum(total, 1), kind="stable")
    hits, called = np.cumsum(positive[order]), np.cumsum(total[order])
    best = np.argmax(2 * hits / np.maximum(called + positive.sum(), 1))
    members = np.zeros(size, dtype=bool)
    members[order[: best + 1]] = True
    return members
