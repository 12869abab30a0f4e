"""How much of the model's loss an SAE in training recovers, on a little text that it never sees.

The score is `ce_loss_score` of `worker.evaluate`, of a fixed few hundred tokens and of the SAE as it is
trained: batchtopk chooses among all of these tokens, where what is saved has a threshold. What does
not change, the states and the losses with them and with zeros in their place, is computed once; a
score is then one forward of the model.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float

from worker.models import LanguageModel
from worker.predict import Counted, Visit, counted, cross_entropy, predict
from worker.resid_mid import is_replaceable
from worker.tokens import Sequences, batches
from worker.train.order import beginning
from worker.train.settings import Settings

TOKENS = 512
"""Of the text."""
TRAINED_FOR_EACH = 100
"""Tokens that are trained on between two scores, for each token of the text."""

Reconstruct = Callable[[torch.Tensor], torch.Tensor]
"""Of activations [tokens, d_in] in float32, the same shape."""


class _Part(NamedTuple):
    """A batch of the text, and what the model computes for it as it is."""

    of: Counted
    state: Float[torch.Tensor, "b s d_in"]
    original: float
    """Summed cross-entropy."""
    zeroed: float
    """The same with zeros in place of the state."""


class LossScore:
    """At one hook point."""

    def __init__(self, model: LanguageModel, hook_name: str, held_out: Sequences) -> None:
        self._model, self._site = model, model.site(hook_name)
        text = beginning(held_out, TOKENS if is_replaceable(model, hook_name) else 0)
        # What follows in the last of them changes nothing before it, and contexts may be long.
        self._text = Sequences(text.flat[:TOKENS], text.offsets.clip(max=TOKENS))

    def points_between(self, settings: Settings) -> int:
        """Points of the metric curve from one score to the next."""
        tokens = TRAINED_FOR_EACH * len(self._text.flat)
        return max(1, math.ceil(tokens / (settings.log_every * settings.batch_tokens)))

    @torch.inference_mode()
    def __call__(self, reconstruct: Reconstruct) -> float | None:
        """(H_zero - H_sae) / (H_zero - H_orig); None where there is no text, zeros cost nothing, or
        the state cannot be replaced."""
        gain = sum(part.zeroed - part.original for part in self._parts)
        if not gain:
            return None
        won = sum(part.zeroed - self._loss(part, reconstruct) for part in self._parts)
        return won / gain

    def _loss(self, part: _Part, reconstruct: Reconstruct) -> float:
        swapped, plain = part.state.clone(), part.of.plain
        swapped[plain] = reconstruct(part.state[plain].float()).to(swapped.dtype)
        return self._predicted(part.of, swapped.view_as)

    @cached_property
    def _parts(self) -> list[_Part]:
        return [self._known(counted(self._model, one)) for one in batches(self._text, TOKENS)]

    def _known(self, of: Counted) -> _Part:
        states: list[torch.Tensor] = []
        original = self._predicted(
            of, lambda state: states.append(state.reshape(*of.ids.shape, -1).clone())
        )
        return _Part(of, states[0], original, self._predicted(of, torch.zeros_like))

    def _predicted(self, of: Counted, visit: Visit) -> float:
        return float(cross_entropy(predict(self._model, of, {self._site: visit}), of.following))
