"""Where TransformerLens hook points lie in a plain Hugging Face model. Only importer of
transformer_lens.

A TransformerBridge knows, for every architecture, which module's input or output is which hook
point, but running through it is 2.3 times slower than running the model that it wraps. So:
1. build the architecture again without weights and note the name of every module,
2. let the Bridge wrap that copy, and ask which module owns the hook points we want,
3. hook the modules of the same names in the real model, where a forward passes them once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from app.errors import Invalid
from worker.building import one_at_a_time
from worker.folders import one_line

STEERABLE_HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "mlp.hook_post",
    "attn.hook_z",
)
"""Hook points of a block that can be steered; some architectures lack some."""

READABLE_HOOKS = (
    *STEERABLE_HOOKS,
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "mlp.hook_in",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
)
"""Hook points of a block that can be captured; fused weights have no hook_q, hook_k, hook_v."""

Side = Literal["in", "out"]


@dataclass(frozen=True)
class Site:
    """A hook point, as a place in the plain Hugging Face model."""

    hook_name: str
    """TransformerLens name: `blocks.2.hook_resid_post`."""
    module: str
    """Dotted path of a module: `model.layers.2`."""
    side: Side
    """The site is the module's first input, or its output (the first of a tuple)."""
    width: int
    """Length of the vector at every token; heads are flattened."""


@dataclass(frozen=True)
class Anatomy:
    """What the Bridge says of an architecture."""

    n_layers: int
    d_model: int
    d_mlp: int
    context_size: int
    layer_norm: bool
    """LayerNorm, which takes the mean out; False is RMSNorm."""
    places: dict[str, tuple[str, Side]]
    """Hook name -> (module, side), in the order in which a forward meets the blocks."""


def is_steerable(hook_name: str) -> bool:
    """Whether a hook point is of a kind that can be steered."""
    return hook_name.split(".", 2)[-1] in STEERABLE_HOOKS


def add_hook(
    module: nn.Module, side: Side, visit: Callable[[torch.Tensor], torch.Tensor | None]
) -> RemovableHandle:
    """Call `visit` with the tensor at a module's side on every forward; where it returns a tensor,
    that one takes its place."""

    def before(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple | None:
        # Hugging Face passes hidden states first, or by that name.
        if args:
            new = visit(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = visit(kwargs["hidden_states"])
        return None if new is None else (args, kwargs | {"hidden_states": new})

    def after(_: nn.Module, __: tuple, output: Any) -> Any:
        if not isinstance(output, tuple):
            return visit(output)
        new = visit(output[0])
        return None if new is None else (new, *output[1:])

    if side == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


@one_at_a_time
def learn_anatomy(config: PreTrainedConfig) -> Anatomy:
    """Ask the Bridge where the hook points of an architecture are; takes no memory for weights.

    Raises:
        Invalid: the Bridge cannot wrap the architecture.
    """
    bridge, names = _boot(config)
    return Anatomy(
        n_layers=bridge.cfg.n_layers,
        d_model=bridge.cfg.d_model,
        d_mlp=bridge.cfg.d_mlp or 4 * bridge.cfg.d_model,
        context_size=bridge.cfg.n_ctx,
        layer_norm=bridge.cfg.normalization_type in ("LN", "LNPre"),
        places=_places(bridge, names),
    )


@one_at_a_time
def count_numbers(config: PreTrainedConfig) -> int:
    """In all parameters and buffers of an architecture; takes no memory for them.

    Raises:
        Invalid: the architecture cannot be made, or has more than can be counted.
    """
    with _told(config):
        model = _without_weights(config)
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


@torch.inference_mode()
def find_sites(model: PreTrainedModel, anatomy: Anatomy) -> dict[str, Site]:
    """The hook points that one short forward of the real model passes exactly once, with the
    widths that it shows; a module that runs several times has no one value."""
    seen: dict[str, list[torch.Size]] = {name: [] for name in anatomy.places}
    handles = [
        add_hook(model.get_submodule(module), side, lambda x, name=name: seen[name].append(x.shape))
        for name, (module, side) in anatomy.places.items()
    ]
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: Site(name, *anatomy.places[name], width=shapes[0][-1])
        for name, shapes in seen.items()
        if len(shapes) == 1 and shapes[0][:-1] in ((1, 2), (2,))
    }


def _boot(config: PreTrainedConfig) -> tuple[TransformerBridge, dict[int, str]]:
    """The Bridge over a copy without weights, and the copy's module names by identity."""
    with _told(config):
        try:
            return _wrap(config, hollow=False)
        except NotImplementedError:
            # Fused query-key-value weights are split while wrapping, which a meta tensor refuses.
            return _wrap(config, hollow=True)


@contextmanager
def _told(config: PreTrainedConfig) -> Iterator[None]:
    """What is raised here is told as a sentence."""
    try:
        yield
    except (ValueError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise Invalid(
            f"A model of type {config.model_type!r} with this configuration cannot be wrapped by "
            f"TransformerLens' TransformerBridge ({one_line(error)}); give one that it can wrap."
        ) from error


def _wrap(config: PreTrainedConfig, hollow: bool) -> tuple[TransformerBridge, dict[int, str]]:
    model = _without_weights(config)
    if hollow:
        _hollow_out(model)
    names = {id(module): name for name, module in model.named_modules()}
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    return bridge, names


def _without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _hollow_out(model: nn.Module) -> None:
    """Give every tensor the right shape over one single zero, on the CPU."""
    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is not None:
                zero = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
                module._parameters[name] = nn.Parameter(zero, requires_grad=False)
        for name, tensor in module._buffers.items():
            if tensor is not None:
                module._buffers[name] = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)


def _places(bridge: TransformerBridge, names: dict[int, str]) -> dict[str, tuple[str, Side]]:
    owners = _owners(bridge, names)
    places: dict[str, tuple[str, Side]] = {}
    for layer in range(bridge.cfg.n_layers):
        for hook in READABLE_HOOKS:
            hook_name = f"blocks.{layer}.{hook}"
            place = owners.get(id(bridge.hook_dict.get(hook_name)))
            # A mixture of experts has no one vector of neurons; the Bridge then names the output.
            if place and not (hook == "mlp.hook_post" and place[1] == "out"):
                places[hook_name] = place
    return places


def _owners(bridge: TransformerBridge, names: dict[int, str]) -> dict[int, tuple[str, Side]]:
    """Identity of a HookPoint -> the module whose input or output it sees."""
    owners: dict[int, tuple[str, Side]] = {}
    for component in bridge.modules():
        module: Any = getattr(component, "original_component", None)
        # A component without a name stands for a part of its parent, not for the whole of it.
        if id(module) not in names or getattr(component, "name", None) is None:
            continue
        for side in ("in", "out"):
            point = getattr(component, f"hook_{side}", None)
            if point is not None:
                owners[id(point)] = (names[id(module)], side)
    return owners
