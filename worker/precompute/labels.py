"""A first label without a language model: what a feature fires on, what it promotes.

    fires on ` sea`, ` shell`; promotes ` wave`, ` tide`

- Fires on: tokens at the peaks of the top examples, each weighing the sum of its peaks; those that
  carry at least a fifth of all the weight, three at most. Where no token does, the feature follows
  no single token and the label names the strongest one, with `and others`.
- Promotes: the tokens whose logits it raises most, down to half of the highest, three at most.

Ties go to the lower token id. A feature that is never active says so. Held-out sequences do not
count (`worker.precompute.scores` judges labels on them), unless a feature has no others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from app.store.records import Examples
from worker.precompute.draw import held_out
from worker.tokens import Sequences

NAMED = 3
_SHARE = 0.2
_FRACTION = 0.5


class Named(NamedTuple):
    """The tokens that labels name, the strongest first; -1 behind the last."""

    fires: Int[np.ndarray, "features named"]
    others: Bool[np.ndarray, " features"]
    """Whether it fires on others as well, as none carries a fifth of the weight."""
    promotes: Int[np.ndarray, "features named"]


def quote(display: Sequence[str]) -> list[str]:
    """A vocabulary's strings as labels show them: quoted, on one line."""
    return [f"`{''.join(map(_visible, token))}`" for token in display]


def _visible(character: str) -> str:
    """Control characters and line breaks by their escape codes."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def name_tokens(
    examples: Examples,
    sequences: Sequences,
    top_logits: tuple[Int[np.ndarray, "features n"], Float[np.ndarray, "features n"]],
    seed: int,
) -> Named:
    """The tokens of each feature's label, for a range of features."""
    tokens, values = top_logits
    fires, others = _fires(examples, sequences, len(tokens), seed)
    raised = (values > 0) & (values >= _FRACTION * values[:, :1])
    promotes = np.full((len(tokens), NAMED), -1, np.int64)
    kept = min(NAMED, tokens.shape[1])
    promotes[:, :kept] = np.where(raised, tokens, -1)[:, :kept]
    return Named(fires, others, promotes)


def write_labels(named: Named, quoted: Sequence[str]) -> list[str]:
    """One label for each feature; `quoted` is the vocabulary from `quote`."""
    columns = (named.fires.tolist(), named.others.tolist(), named.promotes.tolist())
    return [_label(*one, quoted) for one in zip(*columns, strict=True)]


def _label(fires: list[int], others: bool, promotes: list[int], quoted: Sequence[str]) -> str:
    fired, promoted = (
        ", ".join(quoted[token] for token in tokens if token >= 0) for tokens in (fires, promotes)
    )
    label = f"fires on {fired}" + " and others" * others if fired else "never fires"
    return f"{label}; promotes {promoted}" if promoted else label


def _fires(
    examples: Examples, sequences: Sequences, features: int, seed: int
) -> tuple[Int[np.ndarray, "features named"], Bool[np.ndarray, " features"]]:
    """Per feature, its tokens of largest weight, and whether none has a fifth of it."""
    top = _judged(examples, features, seed)
    peak = examples.offset[top].astype(np.int64) + examples.peak[top]
    token = sequences.flat[sequences.offsets[examples.sequence[top]] + peak].astype(np.int64)
    pair, of = np.unique(examples.feature[top].astype(np.int64) << 32 | token, return_inverse=True)
    weight = np.bincount(of, _maxima(examples)[top], minlength=len(pair))
    feature, token = pair >> 32, pair & (2**32 - 1)
    share = weight / np.bincount(feature, weight, minlength=features)[feature]
    order = np.lexsort((token, -weight, feature))
    feature, token, share = feature[order], token[order], share[order]
    rank = np.arange(len(feature)) - np.searchsorted(feature, feature)
    named = (rank < NAMED) & ((share >= _SHARE) | (rank == 0))
    fires, others = np.full((features, NAMED), -1, np.int64), np.zeros(features, dtype=bool)
    fires[feature[named], rank[named]] = token[named]
    others[feature] = share[rank == 0][np.cumsum(rank == 0) - 1] < _SHARE
    return fires, others


def _judged(examples: Examples, features: int, seed: int) -> Int[np.ndarray, " examples"]:
    """The top examples outside of held-out sequences; all of a feature that has none there."""
    top = np.flatnonzero(examples.band == 0)
    feature, held = examples.feature[top], held_out(seed, examples.sequence[top])
    has_others = np.bincount(feature[~held], minlength=features) > 0
    return top[~held | ~has_others[feature]]


def _maxima(examples: Examples) -> Float[np.ndarray, " examples"]:
    """The activation at each example's peak; every example has at least that one value."""
    if not len(examples.feature):
        return np.empty(0, dtype=np.float32)
    return np.maximum.reduceat(examples.value, examples.values_start[:-1])
