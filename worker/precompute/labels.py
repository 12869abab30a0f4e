"""A first label without a language model: what a feature fires on, what it promotes.

    fires on ` sea`, ` shell`; promotes ` wave`, ` tide`

- Fires on: tokens at the peaks of the top examples, each weighing the sum of its peaks; those that
  carry at least a fifth of all the weight, three at most. Where no token does, the feature follows
  no single token and the label names the strongest one, with `and others`.
- Promotes: the tokens whose logits it raises most, down to half of the highest, three at most.

Ties go to the lower token id. A feature that is never active says so.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from app.store.records import Examples
from worker.tokens import Sequences

_NAMED = 3
_SHARE = 0.2
_FRACTION = 0.5
_ONE_LINE = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


def quote(display: Sequence[str]) -> list[str]:
    """A vocabulary's strings as labels show them: quoted, on one line."""
    return [f"`{token.translate(_ONE_LINE)}`" for token in display]


def write_labels(
    examples: Examples,
    sequences: Sequences,
    top_logits: tuple[Int[np.ndarray, "features n"], Float[np.ndarray, "features n"]],
    quoted: Sequence[str],
) -> list[str]:
    """One label for each feature of a range; `quoted` is the vocabulary from `quote`."""
    labels = []
    for fires, promotes in zip(
        _fires(examples, sequences, len(top_logits[0])), _promotes(*top_logits), strict=True
    ):
        label = "never fires"
        if fires:
            named = [token for token, share in fires if share >= _SHARE]
            label = "fires on " + ", ".join(quoted[token] for token in named)
            label = label if named else f"fires on {quoted[fires[0][0]]} and others"
        if promotes:
            label += "; promotes " + ", ".join(quoted[token] for token in promotes)
        labels.append(label)
    return labels


def _fires(
    examples: Examples, sequences: Sequences, features: int
) -> list[list[tuple[int, float]]]:
    """Per feature, its tokens of largest weight, with their share of all the weight."""
    top = np.flatnonzero(examples.band == 0)
    peak = examples.offset[top].astype(np.int64) + examples.peak[top]
    token = sequences.flat[sequences.offsets[examples.sequence[top]] + peak].astype(np.int64)
    pair, of = np.unique(examples.feature[top].astype(np.int64) << 32 | token, return_inverse=True)
    weight = np.bincount(of, _maxima(examples)[top], minlength=len(pair))
    feature, token = pair >> 32, pair & (2**32 - 1)
    share = weight / np.bincount(feature, weight, minlength=features)[feature]
    order = np.lexsort((token, -weight, feature))
    begins = np.searchsorted(feature, np.arange(features + 1)).tolist()
    listed = list(zip(token[order].tolist(), share[order].tolist(), strict=True))
    return [listed[begin : min(begin + _NAMED, end)] for begin, end in pairwise(begins)]


def _maxima(examples: Examples) -> Float[np.ndarray, " examples"]:
    """The activation at each example's peak; every example has at least that one value."""
    if not len(examples.feature):
        return np.empty(0, dtype=np.float32)
    return np.maximum.reduceat(examples.value, examples.values_start[:-1])


def _promotes(
    tokens: Int[np.ndarray, "features n"], values: Float[np.ndarray, "features n"]
) -> list[list[int]]:
    raised = (values > 0) & (values >= _FRACTION * values[:, :1])
    number = np.minimum(raised.sum(1), _NAMED).tolist()
    return [row[:n] for row, n in zip(tokens.tolist(), number, strict=True)]
