"""Activations in the order of training, a mixed window at a time.

1. A window is the next `window_batches * batch_tokens` tokens of the stream (`order.py`).
2. Its sequences run through the model sorted by length, a few thousand padded tokens a forward,
   which stops at the deepest hook point that is asked for.
3. At each hook point, the activation of the window's j-th token lands in row p(j) of one buffer that
   stays on the model's device, p drawn from (seed, window). So a batch is a slice of it, never a copy,
   and SAEs at the same hook point read the same one.

A sequence that a window's border cuts is run in both windows: whole windows are then a function of
their number alone, which is what makes a resumed run exact.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from app.errors import Invalid
from worker.activations import capture
from worker.models import LanguageModel
from worker.streams import to_device
from worker.tokens import Sequences, batches
from worker.train.order import Order, hold_out, take
from worker.train.settings import Settings

_WINDOW = 1
"""Keeps the windows' random numbers apart from the epochs'."""

_AT_ONCE = 2**20

ByHook = dict[str, Float[torch.Tensor, "rows _"]]
"""Activations by hook point, of the same tokens at each."""


class Activations:
    """Activations at hook points, on the model's device, in float32."""

    held_out: Sequences
    """What is never trained on."""

    def __init__(
        self, model: LanguageModel, sequences: Sequences, settings: Sequence[Settings]
    ) -> None:
        """At the hook points of all `settings`, which differ in nothing else that matters here.

        Raises:
            Invalid: the corpus has fewer trained tokens than one batch.
        """
        widths = {one.hook_name: one.d_in for one in settings}
        self._settings = settings[0]
        self._model, self._sequences = model, sequences
        self._special = model.is_special
        lengths = _trained_lengths(sequences, self._special)
        rows, held_out = hold_out(lengths)
        self.held_out = take(sequences, held_out)
        self._order = Order(rows, lengths, self._settings.seed)
        if self._order.epoch_tokens < self._settings.batch_tokens:
            raise Invalid(
                f"The corpus has {self._order.epoch_tokens:,} tokens to train on, less than one "
                f"batch of {self._settings.batch_tokens:,}; add text or lower train_batch_tokens."
            )
        self._tokens = self._settings.window_batches * self._settings.batch_tokens
        self._buffers = {
            hook: torch.empty(self._tokens, width, dtype=torch.float32, device=model.device)
            for hook, width in widths.items()
        }
        self._held: int | None = None

    def batches(self, first: int, tick: Callable[[], None]) -> Iterator[ByHook]:
        """The batches of step `first` and all later ones, each [batch, d_in] and valid until the next
        is taken.

        `tick` is called after every forward of the model; it may raise.
        """
        settings = self._settings
        for window in range(first // settings.window_batches, settings.windows):
            rows = self.window(window, tick)
            parts = zip(*(x.split(settings.batch_tokens) for x in rows.values()), strict=True)
            for step, batch in enumerate(parts, window * settings.window_batches):
                if step >= first:
                    yield dict(zip(rows, batch, strict=True))

    def window(self, index: int, tick: Callable[[], None]) -> ByHook:
        """One window, [tokens, d_in], mixed, in buffers that the next window overwrites. The run's
        last window ends with the run."""
        start = index * self._tokens
        stop = min(start + self._tokens, self._settings.tokens)
        if index != self._held:
            self._held = None
            self._fill(index, start, stop, tick)
            self._held = index
        return {hook: buffer[: stop - start] for hook, buffer in self._buffers.items()}

    def _fill(self, index: int, start: int, stop: int, tick: Callable[[], None]) -> None:
        random = np.random.default_rng([self._settings.seed, index, _WINDOW])
        mix = random.permutation(stop - start)
        for ids, wanted, position in self._forwards(start, stop):
            found = capture(self._model, ids, list(self._buffers))
            rows = to_device(torch.from_numpy(np.flatnonzero(wanted)), self._model.device)
            target = to_device(torch.from_numpy(mix[position]), self._model.device)
            for hook, buffer in self._buffers.items():
                buffer.index_copy_(0, target, found.pop(hook).flatten(0, 1)[rows].float())
            tick()

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
        plain = np.empty(len(sequences.flat), dtype=bool)
        for first in range(0, len(plain), _AT_ONCE):  # as indices tokens take eight bytes each
            part = slice(first, first + _AT_ONCE)
            plain[part] = ~special[sequences.flat[part]]
        trained[some] = np.add.reduceat(plain, starts[some], dtype=np.int64)
    return trained
