"""Refusals: settings that cannot work, each in one sentence, before any work."""

import torch

from app.contract.jobs import TrainSpec
from app.errors import Invalid
from worker.memory import memory_of
from worker.models import LanguageModel
from worker.tokens import check_context
from worker.train.settings import width
from worker.train.sparsity import check_sparsity


def check(spec: TrainSpec, model: LanguageModel) -> None:
    """Raise the reason why this training cannot work, if there is one. Takes milliseconds.

    Raises:
        Invalid: the model has no such hook point, numbers contradict each other, or the run does
            not fit into memory.
    """
    d_in = model.site(spec.hook_name).width
    d_sae = width(spec, d_in)
    check_sparsity(spec, d_sae)
    if spec.training_tokens < spec.train_batch_tokens:
        raise Invalid(
            f"training_tokens ({spec.training_tokens:,}) is less than one batch "
            f"({spec.train_batch_tokens:,}); raise it or lower train_batch_tokens."
        )
    check_context(spec.context_size, model.context_size, model.id)
    _check_memory(d_in, d_sae, spec.train_batch_tokens, model.device)


def _check_memory(d_in: int, d_sae: int, batch_tokens: int, device: torch.device) -> None:
    """Weights, gradients and Adam's two moments, and the activations of one step, in float32."""
    need = 4 * (4 * 2 * d_in * d_sae + 4 * batch_tokens * d_sae + 4 * batch_tokens * d_in)
    have = memory_of(device)
    if need > have:
        raise Invalid(
            f"Training {d_sae:,} features on batches of {batch_tokens:,} tokens needs about "
            f"{need / 1e9:.0f} GB but {device} has {have / 1e9:.0f} GB; lower d_sae or "
            "train_batch_tokens."
        )
