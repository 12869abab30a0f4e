"""Writing at resid_mid, the residual stream between attention and MLP.

Its site is the input of the norm in front of the MLP, and the block adds the MLP's output to the
very tensor that it gave to that norm: only writing into that tensor changes the stream as well.
"""

import torch

from worker.models import LanguageModel
from worker.order import visit_sites


def is_resid_mid(hook_name: str) -> bool:
    """Whether a hook point is the residual stream between attention and MLP."""
    return hook_name.endswith(".hook_resid_mid")


def put(hook_name: str, state: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """What a hook at `hook_name` returns so that `new` takes the place of `state`."""
    return state.copy_(new) if is_resid_mid(hook_name) else new


def is_replaceable(model: LanguageModel, hook_name: str) -> bool:
    """Whether `put` there changes what the model computes. Runs the model for a resid_mid."""
    return not is_resid_mid(hook_name) or hook_name in find_exact_mid(model)


def find_exact_mid(model: LanguageModel) -> frozenset[str]:
    """The resid_mid hook points at which `put` changes the residual stream itself.

    Probed in one forward: with something added in place at every resid_mid, a sequential block's
    output is that resid_mid plus mlp_out. A parallel block, or one that keeps a copy, differs.
    """
    seen: dict[str, torch.Tensor] = {}

    def visit(name: str, state: torch.Tensor) -> None:
        if is_resid_mid(name):
            state.add_(state.abs().max() + 1)
        seen[name] = state.float().clone()

    visit_sites(model, visit)
    return frozenset(name for name in seen if is_resid_mid(name) and _is_exact(name, seen))


def _is_exact(mid: str, seen: dict[str, torch.Tensor]) -> bool:
    block = mid.removesuffix("hook_resid_mid")
    post, mlp_out = seen.get(block + "hook_resid_post"), seen.get(block + "hook_mlp_out")
    if post is None or mlp_out is None:
        return False
    expected = seen[mid] + mlp_out
    return bool((post - expected).norm() < 0.05 * expected.norm())
