"""Activations at hook points: one forward that stops as soon as the last one asked for is seen.

Batches are right-padded. A causal model's position looks at nothing after it, so padding on the
right changes no real position; no attention mask is needed, and the values at the padding mean
nothing.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int

from app.errors import Invalid
from worker.models import LanguageModel
from worker.sites import add_hook
from worker.streams import to_device


class _AllSeen(Exception):
    """Ends a forward; never leaves this module."""


@torch.inference_mode()
def capture(
    model: LanguageModel,
    ids: Int[torch.Tensor, "batch sequence"],
    hooks: Sequence[str],
) -> dict[str, Float[torch.Tensor, "batch sequence _"]]:
    """What the model computes at `hooks`, in its own device and number format.

    Heads are flattened at `hook_z`. The model's hooks are gone again when this returns or raises.

    Raises:
        Invalid: the model has no such hook point.
    """
    sites = [model.site(name) for name in dict.fromkeys(hooks)]
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        found[name] = value.reshape(*ids.shape, -1)
        if len(found) == len(sites):
            raise _AllSeen
        # Some architectures go on writing into a tensor (Falcon adds attention to its MLP output).
        found[name] = found[name].clone()

    handles = [
        add_hook(
            model.hf.get_submodule(site.module),
            site.side,
            lambda value, name=site.hook_name: keep(name, value),
        )
        for site in sites
    ]
    try:
        model.hf(input_ids=to_device(ids, model.device), use_cache=False)
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def not_finite(model: LanguageModel, hook_name: str) -> Invalid:
    """What is said of activations that are infinite or no numbers."""
    return Invalid(
        f"The model {model.id} gives numbers that are not finite at {hook_name}; check its weights, "
        "or run it with SAESCOPE_DTYPE=float32."
    )
