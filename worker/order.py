"""In which order a forward meets the hook points of a model: asked of the model itself."""

import torch

from worker.models import LanguageModel
from worker.sites import add_hook


@torch.inference_mode()
def forward_order(model: LanguageModel) -> dict[str, int]:
    """Every hook point with its place in a forward, counted from 0."""
    met: dict[str, int] = {}
    handles = [
        add_hook(
            model.hf.get_submodule(site.module),
            site.side,
            lambda _, name=name: _note(met, name),
        )
        for name, site in model.sites.items()
    ]
    try:
        ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        model.hf(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return met


def _note(met: dict[str, int], name: str) -> None:
    met[name] = len(met)
