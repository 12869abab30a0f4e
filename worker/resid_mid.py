"""Writing at resid_mid, the residual stream between attention and MLP.

Its site is the input of the norm in front of the MLP, and the block adds the MLP's output to the
very tensor that it gave to that norm: only writing into that tensor changes the stream as well.
"""

from collections.abc import Callable

import torch

from worker.models import LanguageModel
from worker.sites import add_hook


def is_resid_mid(hook_name: str) -> bool:
    """Whether a hook point is the residual stream between attention and MLP."""
    return hook_name.endswith(".hook_resid_mid")


def put(hook_name: str, state: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """What a hook at `hook_name` returns so that `new` takes the place of `state`."""
    return state.copy_(new) if is_resid_mid(hook_name) else new


@torch.inference_mode()
def find_exact_mid(model: LanguageModel) -> frozenset[str]:
    """The resid_mid hook points at which `put` changes the residual stream itself.

    Probed in one forward: with something added in place at every resid_mid, a sequential block's
    output is that resid_mid plus mlp_out. A parallel block, or one that keeps a copy, differs.
    """
    mids = [name for name in model.sites if is_resid_mid(name)]
    seen: dict[str, torch.Tensor] = {}
    handles = [
        add_hook(model.hf.get_submodule(site.module), site.side, _probe(name, seen))
        for name, site in model.sites.items()
    ]
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        model.hf(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(mid for mid in mids if _is_exact(mid, seen))


def _probe(name: str, seen: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], None]:
    def run(state: torch.Tensor) -> None:
        if is_resid_mid(name):
            state.add_(state.abs().max() + 1)
        seen[name] = state.float().clone()

    return run


def _is_exact(mid: str, seen: dict[str, torch.Tensor]) -> bool:
    block = mid.removesuffix("hook_resid_mid")
    post, mlp_out = seen.get(block + "hook_resid_post"), seen.get(block + "hook_mlp_out")
    if post is None or mlp_out is None:
        return False
    expected = seen[mid] + mlp_out
    return bool((post - expected).norm() < 0.05 * expected.norm())
