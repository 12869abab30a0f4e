"""What a forward meets at the hook points of a model, and in which order: asked of the model itself."""

from collections.abc import Callable

import torch

from worker.models import LanguageModel
from worker.sites import add_hook


@torch.inference_mode()
def visit_sites(model: LanguageModel, visit: Callable[[str, torch.Tensor], None]) -> None:
    """Run two tokens through the model; `visit` gets every hook point's name and state as it is met,
    and may write to the state."""
    handles = [
        add_hook(
            model.hf.get_submodule(site.module),
            site.side,
            lambda state, name=name: visit(name, state),
        )
        for name, site in model.sites.items()
    ]
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        model.hf(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()


def forward_order(model: LanguageModel) -> dict[str, int]:
    """Every hook point with its place in a forward, counted from 0."""
    met: list[str] = []
    visit_sites(model, lambda name, _: met.append(name))
    return {name: place for place, name in enumerate(met)}
