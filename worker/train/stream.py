"""Activations in the order of training, a mixed window at a time.

1. A window is the next `window_batches * batch_tokens` tokens of the stream (`order.py`).
2. Its sequences run through the model sorted by length, a few thousand padded tokens a forward.
3. The activation of its j-th token lands in row p(j) of one buffer that stays on the model's
   device, p drawn from (seed, window). So a batch is a slice of it, never a copy.

A sequence that a window's border cuts is run in both windows: whole windows are then a function of
their number alone, which is what makes a resumed run exact.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from app.errors import Invalid
from worker.activations import capture
from worker.models import LanguageModel
from worker.tokens import Sequences, batches
from worker.train.order import Order, hold_out, take
from worker.train.settings import Settings

_WINDOW = 1
"""Keeps the windows' random numbers apart from the epochs'."""


class Activations:
    """Activations at the hook point of `settings`, on the model's device, in float32."""

    held_out: Sequences
    """What is never trained on."""

    def __init__(self, model: LanguageModel, sequences: Sequences, settings: Settings) -> None:
        """
        Raises:
            Invalid: the corpus has fewer trained tokens than one batch.
        """
        self._model, self._sequences, self._settings = model, sequences, settings
        self._special = model.is_special
        lengths = _trained_lengths(sequences, self._special)
        rows, held_out = hold_out(lengths)
        self.held_out = take(sequences, held_out)
        self._order = Order(rows, lengths, settings.seed)
        if self._order.epoch_tokens < settings.batch_tokens:
            raise Invalid(
                f"The corpus has {self._order.epoch_tokens:,} tokens to train on, less than one "
                f"batch of {settings.batch_tokens:,}; add text or lower train_batch_tokens."
            )
        self._buffer = torch.empty(
            settings.window_batches * settings.batch_tokens,
            settings.d_in,
            dtype=torch.float32,
            device=model.device,
        )
        self._held: int | None = None

    def batches(
        self, first: int, tick: Callable[[], None]
    ) -> Iterator[Float[torch.Tensor, "batch d_in"]]:
        """The batches of step `first` and all later ones, each valid until the next is taken.

        `tick` is called after every forward of the model; it may raise.
        """
        settings = self._settings
        for window in range(first // settings.window_batches, settings.windows):
            step = window * settings.window_batches
            for batch in self.window(window, tick).split(settings.batch_tokens):
                if step >= first:
                    yield batch
                step += 1

    def window(self, index: int, tick: Callable[[], None]) -> Float[torch.Tensor, "tokens d_in"]:
        """One window, mixed, in a buffer that the next window overwrites. The run's last window
        ends with the run."""
        settings = self._settings
        start = index * len(self._buffer)
        stop = min(start + len(self._buffer), settings.tokens)
        if index == self._held:
            return self._buffer[: stop - start]
        self._held = None
        mix = np.random.default_rng([settings.seed, index, _WINDOW]).permutation(stop - start)
        for ids, wanted, position in self._forwards(start, stop):
            found = capture(self._model, ids, [settings.hook_name])[settings.hook_name]
            rows = torch.from_numpy(np.flatnonzero(wanted)).to(found.device)
            target = torch.from_numpy(mix[position]).to(found.device)
            self._buffer.index_copy_(0, target, found.flatten(0, 1)[rows].float())
            tick()
        self._held = index
        return self._buffer[: stop - start]

    def _forwards(
        self, start: int, stop: int
    ) -> Iterator[
        tuple[
            Int[torch.Tensor, "batch seq"],
            Bool[np.ndarray, "batch seq"],
            Int[np.ndarray, " wanted"],
        ]
    ]:
        """Right-padded ids, which of them the window wants, and where in the window (not mixed)
        each of these belongs."""
        pieces = self._order.pieces(start, stop)
        begins = np.cumsum(pieces.last - pieces.first) - pieces.last
        for batch in batches(take(self._sequences, pieces.sequence), self._settings.forward_tokens):
            trained = batch.mask.numpy() & ~self._special[batch.ids.numpy()]
            rank = np.cumsum(trained, axis=1) - 1
            row = batch.rows[:, None]
            wanted = trained & (rank >= pieces.first[row]) & (rank < pieces.last[row])
            yield batch.ids, wanted, (begins[row] + rank)[wanted]


def _trained_lengths(
    sequences: Sequences, special: Bool[np.ndarray, " vocabulary"]
) -> Int[np.ndarray, " sequences"]:
    """Tokens of each sequence that are not special."""
    starts, lengths = sequences.offsets[:-1], np.diff(sequences.offsets)
    some = lengths > 0
    trained = np.zeros(len(lengths), dtype=np.int64)
    if some.any():
        trained[some] = np.add.reduceat(~special[sequences.flat], starts[some], dtype=np.int64)
    return trained
