"""A few tokens on which a model is tried when it is loaded: its forwards in a batch against plain ones."""

import torch
from jaxtyping import Float

from worker.models import LanguageModel

SHORT, LONG = [5, 6], [1, 2, 3, 4]
AFTER = {len(SHORT): 8, len(LONG): 7}
"""The token that follows, by length."""


def longer(prompts: list[list[int]]) -> list[list[int]]:
    """With the token that follows each."""
    return [[*prompt, AFTER[len(prompt)]] for prompt in prompts]


class Plain:
    """Plain forwards of one model, each done once."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._logits: dict[tuple[int, ...], torch.Tensor] = {}

    def equals(self, ours: Float[torch.Tensor, "n v"], prompts: list[list[int]]) -> bool:
        """Whether these are the logits at the last token of each."""
        plain = torch.stack([self._last(tuple(prompt)) for prompt in prompts])
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.1
        return bool((ours - plain).norm() <= tolerance * plain.norm())

    def _last(self, ids: tuple[int, ...]) -> Float[torch.Tensor, "v"]:
        if ids not in self._logits:
            given = torch.tensor([ids], device=self._model.device)
            logits = self._model.hf(input_ids=given, use_cache=False).logits
            self._logits[ids] = logits[0, -1].float()
        return self._logits[ids]
