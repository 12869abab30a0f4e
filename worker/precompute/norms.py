"""What a norm does in a linear way: its elementwise gain, and centring where it is a LayerNorm.

What it divides by depends on the token and is left out.
"""

import torch
from jaxtyping import Float
from torch import nn

from worker.models import LanguageModel


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a LayerNorm, an RMSNorm or the like."""
    return "norm" in type(module).__name__.lower()


class LinearPart:
    """The linear part of one norm."""

    @torch.inference_mode()
    def __init__(self, norm: nn.Module, model: LanguageModel) -> None:
        """Read off what the norm does: architectures store the gain in several forms (Gemma's is
        1 + weight), but a vector of +1 and -1 is its own norm."""
        signs = torch.ones(model.d_model, device=model.device, dtype=model.dtype)
        signs[1::2] = -1
        bias = (norm(signs) + norm(-signs)) / 2
        self._gain = ((norm(signs) - bias) * signs).float()
        moved = (norm(signs + 1) - norm(signs)).abs().max()
        self._centred = bool(moved < 0.1 * self._gain.abs().max())

    def __call__(
        self, vectors: Float[torch.Tensor, "n d_model"]
    ) -> Float[torch.Tensor, "n d_model"]:
        """Vectors behind the norm, but for what it divides by."""
        if self._centred:
            vectors = vectors - vectors.mean(dim=1, keepdim=True)
        return vectors * self._gain
