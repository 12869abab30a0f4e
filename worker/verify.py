"""Stored examples, computed again: is the evidence what model and dictionary do?

A window's activations depend on its sequence up to the window's end. That much of the corpus' tokens
is run through the model anew, in other batches than precompute's, and encoded for the window's own
feature. Every value of the window is compared, the zeros too. Special tokens are skipped: evidence
counts them as nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from worker.activations import capture
from worker.models import LanguageModel
from worker.progress import Progress, silent
from worker.saes import Dictionary
from worker.tokens import Sequences, batches

TOLERANCE = 1e-5
"""In float32, of the feature's strongest activation."""

_BATCH_TOKENS = 2_048


class Stored(NamedTuple):
    """One example as it is stored."""

    feature: int
    sequence: int
    offset: int
    """Position of the window's first token."""
    tokens: np.ndarray
    """int [offset + length]: the sequence up to the window's end."""
    values: np.ndarray
    """float32 [length]."""
    largest: float
    """The feature's strongest activation on the corpus."""


@dataclass
class Comparison:
    """How far stored values are from computed ones."""

    examples: int = 0
    values: int = 0
    largest_difference: float = 0.0
    largest_relative: float = 0.0
    """Of a difference to its feature's strongest activation."""
    worst: dict[str, float] | None = field(default=None)
    """The value that is relatively furthest off."""

    def add(self, stored: Stored, computed: Float[np.ndarray, " length"]) -> None:
        """Compare one example; NaN where a token does not count."""
        difference = np.abs(stored.values - computed)
        at = int(np.nanargmax(difference))
        relative = float(difference[at]) / stored.largest
        self.examples += 1
        self.values += int(np.isfinite(computed).sum())
        self.largest_difference = max(self.largest_difference, float(difference[at]))
        if relative >= self.largest_relative:
            self.largest_relative = relative
            self.worst = {
                "feature": stored.feature,
                "sequence": stored.sequence,
                "position": stored.offset + at,
                "stored": float(stored.values[at]),
                "recomputed": float(computed[at]),
            }


def compare(
    model: LanguageModel,
    dictionary: Dictionary,
    examples: Sequence[Stored],
    progress: Progress = silent,
) -> Comparison:
    """Compute examples again. Reports phase `verify` in examples."""
    compared = Comparison()
    lengths = [len(one.tokens) for one in examples]
    flat = np.concatenate([one.tokens for one in examples]) if examples else np.empty(0, np.int64)
    sequences = Sequences(flat, np.cumsum([0, *lengths], dtype=np.int64))
    for batch in batches(sequences, _BATCH_TOKENS):
        found = capture(model, batch.ids, [dictionary.hook_name])[dictionary.hook_name]
        for row, x in zip(batch.rows.tolist(), found, strict=True):
            one = examples[row]
            compared.add(one, _encode(model, dictionary, one, x))
        progress("verify", float(compared.examples), float(len(examples)))
    return compared


def _encode(
    model: LanguageModel, dictionary: Dictionary, one: Stored, x: Float[torch.Tensor, "seq d_in"]
) -> Float[np.ndarray, " length"]:
    window = slice(one.offset, len(one.tokens))
    feature = torch.tensor([one.feature], device=dictionary.scale.device)
    values = dictionary.encode_columns(x[window], feature)[:, 0].cpu().numpy().copy()
    values[np.isin(one.tokens[window], list(model.special_ids))] = np.nan
    # Negative values of signed sources are counted, and stored as nothing.
    return np.where(values < 0, np.float32(0), values)
