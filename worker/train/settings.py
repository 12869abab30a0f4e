"""Every number that a training run depends on, worked out from what the caller asked for.

Schedules scale with the length of the run (S steps in all): the learning rate warms up over S/20
(at most 1,000) steps and falls linearly to zero over the last S/5; penalties warm up over S/10; a
feature counts as dead after S/10 steps (at most 10 M tokens) without firing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.contract.jobs import TrainSpec
from worker.models import LanguageModel
from worker.train.sparsity import sparsity

EXPANSION = 8
"""Features for each input dimension, unless the caller says otherwise."""

MAX_WINDOW_BATCHES = 64
WINDOW_BYTES = {"cpu": 2**30, "cuda": 2**32}
FORWARD_TOKENS = {"cpu": 8_192, "cuda": 65_536}
DEAD_AFTER_TOKENS = 10_000_000


@dataclass(frozen=True)
class Settings:
    """A resolved run. Together with model and corpus it determines the result."""

    architecture: str
    hook_name: str
    d_in: int
    d_sae: int
    sparsity: dict[str, Any]
    """What makes activations sparse, in SAELens' names (`worker.train.sparsity`)."""
    steps: int
    batch_tokens: int
    window_batches: int
    """Batches that are mixed with each other."""
    forward_tokens: int
    """Padded tokens of one forward of the model."""
    lr: float
    lr_warm_up_steps: int
    lr_decay_steps: int
    dead_feature_window: int
    """Steps without firing after which a feature counts as dead."""
    sparsity_window: int
    """Steps over which the firing frequencies that are saved are counted: the last half."""
    log_every: int
    """Steps between two points of the metric curve."""
    context_size: int
    prepend_bos: bool
    seed: int
    model_dtype: str
    matmul_precision: str
    """`highest` (float32) or `high` (TF32 on CUDA), for the forward and the training step."""
    autocast: bool
    """Whether the training step multiplies in bfloat16; weights and Adam's moments stay float32."""

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.steps * self.batch_tokens

    @property
    def windows(self) -> int:
        """Windows of mixed batches; the last may be shorter."""
        return -(-self.steps // self.window_batches)


def width(spec: TrainSpec, d_in: int) -> int:
    """Number of features."""
    return spec.d_sae or EXPANSION * d_in


def resolve_each(specs: Sequence[TrainSpec], model: LanguageModel) -> list[Settings]:
    """The settings of SAEs that are trained together, which differ from those alone in nothing but
    `window_batches` and `forward_tokens`: what is read at all their hook points is in memory at a
    time."""
    hooks = {spec.hook_name for spec in specs}
    d_window = sum(model.site(hook).width for hook in hooks)
    return [resolve(spec, model, d_window) for spec in specs]


def resolve(spec: TrainSpec, model: LanguageModel, d_window: int | None = None) -> Settings:
    """The settings of a specification that `check` has passed. `d_window` is how many numbers the
    windows hold of each token, d_in when absent."""
    d_in = model.site(spec.hook_name).width
    device = "cuda" if model.device.type == "cuda" else "cpu"
    steps = spec.training_tokens // spec.train_batch_tokens
    room = WINDOW_BYTES[device] // (4 * (d_window or d_in))
    return Settings(
        architecture=spec.architecture,
        hook_name=spec.hook_name,
        d_in=d_in,
        d_sae=width(spec, d_in),
        sparsity=sparsity(spec, width(spec, d_in), steps),
        steps=steps,
        batch_tokens=spec.train_batch_tokens,
        window_batches=max(1, min(MAX_WINDOW_BATCHES, room // spec.train_batch_tokens, steps)),
        forward_tokens=min(FORWARD_TOKENS[device], room),
        lr=spec.lr,
        lr_warm_up_steps=_warm_up(min(1_000, steps // 20)),
        lr_decay_steps=steps // 5,
        dead_feature_window=max(1, min(steps // 10, DEAD_AFTER_TOKENS // spec.train_batch_tokens)),
        sparsity_window=-(-steps // 2),
        log_every=max(1, steps // 200),
        context_size=spec.context_size or model.context_size,
        prepend_bos=model.prepend_bos,
        seed=spec.seed,
        model_dtype=str(model.dtype).removeprefix("torch."),
        matmul_precision="high" if device == "cuda" else "highest",
        autocast=_has_fast_bfloat16(model.device),
    )


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for it, as NVIDIA's do from compute capability 8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _warm_up(steps: int) -> int:
    """SAELens divides by one less than the warm-up's length."""
    return steps if steps > 1 else 0
