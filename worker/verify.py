"""Stored examples against the model: every value is computed again and compared.

An example's sequence is run through the model whole, in another batch than the evidence's own, so
the last bits differ. What the example says of its sequence is compared at every position, and the
feature's stored maximum with its strongest example.

Thresholds and TopK switch features on and off, and exactly at the switching point the last bits
decide between a value and 0. So a difference does not count, and is told apart (`at_edge`), where
inputs that differ from the token's by rounding alone switch the feature and then agree.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer

from worker.activations import capture, not_finite
from worker.models import LanguageModel
from worker.progress import Progress, silent
from worker.saes import Dictionary
from worker.stored_example import StoredExample
from worker.tokens import Sequences, batches

TOLERANCE = 1e-5
"""In float32, of the feature's largest activation."""

_BATCH_TOKENS = 4_096
_SEQUENCES = 64
"""Sequences in memory at a time."""
_ACTIVATIONS = 2**22
"""Activations in memory at a time, unless one feature on one sequence has more."""
_NUDGES = 64
_NUDGE = 1e-6
"""Length of a nudge, of the token's own: what a forward in float32 rounds."""

Read = Callable[[Int[np.ndarray, " n"]], list[np.ndarray]]
"""Gives whole sequences (token ids, integers) by their numbers."""


class Difference(NamedTuple):
    """What is stored for a position of a sequence, and what is computed there."""

    feature: int
    sequence: int
    position: int
    stored: float
    recomputed: float


@dataclass
class Comparison:
    """How far stored values are from computed ones."""

    examples: int = 0
    values: int = 0
    """Of the examples' windows."""
    at_edge: int = 0
    """Differences that do not count: rounding decides whether the feature is active there."""
    largest_difference: float = 0.0
    largest_relative: float = 0.0
    """Of the feature's largest activation."""
    worst: Difference | None = None
    """Where that is."""


def compare(
    model: LanguageModel,
    dictionary: Dictionary,
    examples: Sequence[StoredExample],
    read: Read,
    on_progress: Progress = silent,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compute examples again. Differences within `tolerance` (of the feature's largest activation)
    are no matter for `at_edge`; those that are no numbers are infinite. Reports phase `verify` in
    examples.

    Raises:
        Conflict: a window is not in its sequence.
        Invalid: the model gives numbers that are not finite.
    """
    comparer, of = _Comparer(model, dictionary, tolerance), defaultdict(list)
    for example in examples:
        of[example.sequence].append(example)
    numbers, started = np.array(sorted(of), dtype=np.int64), time.monotonic()
    for first in range(0, len(numbers), _SEQUENCES):
        block = numbers[first : first + _SEQUENCES]
        for row, tokens, x in _activations(model, dictionary.hook_name, read(block)):
            comparer.add(of[int(block[row])], tokens, x)
        done = comparer.found.examples
        rate = done / max(time.monotonic() - started, 1e-9)
        on_progress("verify", float(done), float(len(examples)), rate)
    return comparer.found


def _activations(
    model: LanguageModel, hook_name: str, sequences: list[np.ndarray]
) -> Iterator[tuple[int, np.ndarray, Float[torch.Tensor, "t d_in"]]]:
    """Sequences by their place in the list, with their tokens and float32 activations."""
    offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
    for batch in batches(Sequences(np.concatenate(sequences), offsets), _BATCH_TOKENS):
        states = capture(model, batch.ids, [hook_name])[hook_name]
        for row, state in zip(batch.rows.tolist(), states, strict=True):
            x = state[: len(sequences[row])].float()
            if not x.isfinite().all():
                raise not_finite(model, hook_name)
            yield row, sequences[row], x


class _Comparer:
    def __init__(self, model: LanguageModel, dictionary: Dictionary, tolerance: float) -> None:
        self.found = Comparison()
        self._dictionary, self._tolerance = dictionary, tolerance
        self._special = sorted(model.special_ids)
        self._random = torch.Generator().manual_seed(0)

    def add(
        self,
        examples: Sequence[StoredExample],
        tokens: Integer[np.ndarray, " t"],
        x: Float[torch.Tensor, "t d_in"],
    ) -> None:
        """Compare the examples that a sequence has."""
        counts = ~np.isin(tokens, self._special)
        size = max(1, _ACTIVATIONS // len(x))
        for first in range(0, len(examples), size):
            some = examples[first : first + size]
            computed = self._encode(x, [one.feature for one in some]) * counts[:, None]
            for example, column in zip(some, computed.T, strict=True):
                self._add(example, column, counts, x)

    def _encode(
        self, x: Float[torch.Tensor, "n d_in"], features: list[int]
    ) -> Float[np.ndarray, "n f"]:
        """Activations, 0 where they are negative: those are not stored."""
        columns = torch.tensor(features, device=x.device)
        return self._dictionary.encode_columns(x, columns).clamp(min=0).cpu().numpy()

    def _add(
        self,
        example: StoredExample,
        computed: Float[np.ndarray, " t"],
        counts: Bool[np.ndarray, " t"],
        x: Float[torch.Tensor, "t d_in"],
    ) -> None:
        example.check(len(computed))
        limit = self._tolerance * example.largest
        gap = example.gaps(np.arange(len(computed)), computed)
        at = int(gap.argmax())
        while (
            gap[at] > limit
            and counts[at]
            and self._at_edge(example, at, float(computed[at]), x[at])
        ):
            self.found.at_edge += 1
            gap[at] = 0
            at = int(gap.argmax())
        self.found.examples += 1
        self.found.values += len(example.values)
        self._count(example, at, float(gap[at]), float(computed[at]))
        if example.overstated > limit and example.maximum is not None:
            peak = example.offset + example.peak
            self._count(example, peak, example.overstated, example.largest, example.maximum)

    def _at_edge(
        self, example: StoredExample, at: int, computed: float, x: Float[torch.Tensor, " d_in"]
    ) -> bool:
        """Whether rounding decides that the feature is active here or not."""
        nudges = torch.randn(_NUDGES, len(x), generator=self._random).to(x.device)
        nudges *= _NUDGE * x.norm() / len(x) ** 0.5
        nudged = self._encode(x + nudges, [example.feature])[:, 0]
        switched = nudged[(nudged > 0) != (computed > 0)]
        gap = example.gaps(np.full(len(switched), at), switched)
        return bool((gap <= self._tolerance * example.largest).any())

    def _count(
        self,
        example: StoredExample,
        at: int,
        difference: float,
        computed: float,
        stored: float | None = None,
    ) -> None:
        found, relative = self.found, difference / example.largest
        found.largest_difference = max(found.largest_difference, difference)
        if found.worst is None or relative > found.largest_relative:
            found.largest_relative = relative
            stored = example.stored(at, computed) if stored is None else stored
            found.worst = Difference(example.feature, example.sequence, at, stored, computed)
