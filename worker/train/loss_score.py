"""How much of the model's loss an SAE in training recovers, on a little text that it never sees.

The score is `ce_loss_score` of `worker.evaluate`, of a fixed few hundred tokens and of the SAE as it is
trained: batchtopk chooses among all of these tokens, where what is saved has a threshold. What does not change,
the states and the losses with them and with zeros in their place, is computed once; a score is then
one forward of the model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int

from worker.models import LanguageModel
from worker.predict import Visit, cross_entropy, predict
from worker.resid_mid import find_exact_mid, is_resid_mid
from worker.tokens import Batch, Sequences, batches
from worker.train.order import beginning
from worker.train.settings import Settings

TOKENS = 512
"""Of the text."""
TRAINED_FOR_EACH = 100
"""Tokens that are trained on between two scores, for each token of the text."""

Reconstruct = Callable[[torch.Tensor], torch.Tensor]
"""Of activations [tokens, d_in] in float32, the same shape."""


@dataclass(frozen=True)
class _Part:
    """A batch of the text, and what the model computes for it as it is."""

    ids: Int[torch.Tensor, "b s"]
    counted: Bool[torch.Tensor, "b s"]
    """Tokens that are not special."""
    predicts: Bool[torch.Tensor, "b s_minus_1"]
    """Those of them that another follows."""
    state: Float[torch.Tensor, "b s d_in"]
    original: float
    """Summed cross-entropy."""
    zeroed: float
    """The same with zeros in place of the state."""


class LossScore:
    """At one hook point."""

    def __init__(self, model: LanguageModel, hook_name: str, held_out: Sequences) -> None:
        self._model, self._site = model, model.site(hook_name)
        exact = not is_resid_mid(hook_name) or hook_name in find_exact_mid(model)
        text = beginning(held_out, TOKENS if exact else 0)
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
        swapped = part.state.clone()
        swapped[part.counted] = reconstruct(part.state[part.counted].float()).to(swapped.dtype)
        return self._predicted(part.ids, part.predicts, swapped.view_as)

    @cached_property
    def _parts(self) -> list[_Part]:
        return [self._known(batch) for batch in batches(self._text, TOKENS)]

    def _known(self, batch: Batch) -> _Part:
        model = self._model
        special = torch.tensor(sorted(model.special_ids), dtype=torch.long, device=model.device)
        ids, real = batch.ids.to(model.device), batch.mask.to(model.device)
        counted = real & ~torch.isin(ids, special)
        predicts = counted[:, :-1] & real[:, 1:]
        states: list[torch.Tensor] = []
        original = self._predicted(
            ids, predicts, lambda state: states.append(state.reshape(*ids.shape, -1).clone())
        )
        zeroed = self._predicted(ids, predicts, torch.zeros_like)
        return _Part(ids, counted, predicts, states[0], original, zeroed)

    def _predicted(self, ids: torch.Tensor, predicts: torch.Tensor, visit: Visit) -> float:
        predicted = predict(self._model, ids, predicts, {self._site: visit})
        return float(cross_entropy(predicted, ids[:, 1:][predicts]))
