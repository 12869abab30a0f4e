"""A first label without a language model: what a feature fires on, what it promotes.

    fires on ` sea`, ` shell`; promotes ` wave`, ` tide`

- Fires on: tokens at the peaks of the top examples, each weighing the sum of its peaks; those that
  carry at least a fifth of all the weight, three at most. Where no token does, the feature follows
  no single token and the label names the strongest one, with `and others`.
- Promotes: the tokens whose logits it raises most, down to half of the highest, three at most.

Ties go to the lower token id. A feature that is never active says so.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from app.store.records import Examples
from worker.tokens import Sequences

_NAMED = 3
_SHARE = 0.2
_FRACTION = 0.5
_ONE_LINE = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


def write_labels(
    examples: Examples,
    sequences: Sequences,
    top_logits: tuple[Int[np.ndarray, "features n"], Float[np.ndarray, "features n"]],
    display: Sequence[str],
) -> list[str]:
    """One label for each feature of a range; `display` are the vocabulary's strings."""
    weights = _peak_weights(examples, len(top_logits[0]), sequences)
    labels = []
    for weight, tokens, values in zip(weights, *top_logits, strict=True):
        parts = [_fires(weight, display), _promotes(tokens, values, display)]
        labels.append("; ".join(part for part in parts if part))
    return labels


def _peak_weights(
    examples: Examples, features: int, sequences: Sequences
) -> list[dict[int, float]]:
    """Per feature, the activations at the peaks of its top examples, summed by token."""
    top = np.flatnonzero(examples.band == 0)
    peak = examples.offset[top].astype(np.int64) + examples.peak[top]
    tokens = sequences.flat[sequences.offsets[examples.sequence[top]] + peak]
    columns = (examples.feature[top], tokens, _maxima(examples)[top])
    weights: list[dict[int, float]] = [defaultdict(float) for _ in range(features)]
    for row, token, value in zip(*(column.tolist() for column in columns), strict=True):
        weights[row][token] += value
    return weights


def _maxima(examples: Examples) -> Float[np.ndarray, " examples"]:
    """The activation at each example's peak; every example has at least that one value."""
    if not len(examples.feature):
        return np.empty(0, dtype=np.float32)
    return np.maximum.reduceat(examples.value, examples.values_start[:-1])


def _fires(weight: dict[int, float], display: Sequence[str]) -> str:
    if not weight:
        return "never fires"
    ordered = sorted(weight, key=lambda token: (-weight[token], token))
    least = _SHARE * sum(weight.values())
    named = [token for token in ordered if weight[token] >= least][:_NAMED]
    if named:
        return f"fires on {_quoted(named, display)}"
    return f"fires on {_quoted(ordered[:1], display)} and others"


def _promotes(
    tokens: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"], display: Sequence[str]
) -> str:
    named = [token for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
             if value > 0 and value >= _FRACTION * values[0]]  # fmt: skip
    return f"promotes {_quoted(named[:_NAMED], display)}" if named else ""


def _quoted(tokens: list[int], display: Sequence[str]) -> str:
    return ", ".join(f"`{display[token].translate(_ONE_LINE)}`" for token in tokens)
