"""Refusals: settings that cannot work, each in one sentence, before any work."""

from collections.abc import Sequence

from app.contract.jobs import TrainSpec
from app.errors import Invalid
from worker.memory import memory_of
from worker.models import LanguageModel
from worker.tokens import check_context
from worker.train.settings import Settings, resolve_each, width
from worker.train.several import each, naming
from worker.train.sparsity import check_sparsity

WIDTHS = {
    "topk": 9,
    "abstopk": 9,
    "batchtopk": 10,
    "matryoshka_batchtopk": 12,
    "jumprelu": 8,
    "standard": 6,
    "gated": 10,
    "matching_pursuit": 4,
}
"""Numbers that a step keeps of each token and feature, where many features are dead."""


def check(spec: TrainSpec, model: LanguageModel) -> None:
    """Raise the reason why this training cannot work, if there is one. Takes milliseconds.

    Raises:
        Invalid: the model has no such hook point, numbers contradict each other, two SAEs have the
            same id, or the run does not fit into memory.
    """
    specs = each(spec)
    for one in specs:
        with naming(one.sae, len(specs)):
            check_sparsity(one, width(one, model.site(one.hook_name).width))
    if spec.training_tokens < spec.train_batch_tokens:
        raise Invalid(
            f"training_tokens ({spec.training_tokens:,}) is less than one batch "
            f"({spec.train_batch_tokens:,}); raise it or lower train_batch_tokens."
        )
    check_context(spec.context_size, model.context_size, model.id)
    _check_memory(resolve_each(specs, model), model)


def _check_memory(settings: Sequence[Settings], model: LanguageModel) -> None:
    need, have = 4 * _numbers_in_memory(settings), memory_of(model.device)
    if need > have:
        features = sum(one.d_sae for one in settings)
        several = f" in {len(settings)} SAEs" if len(settings) > 1 else ""
        fewer = ", or train fewer SAEs at once" if several else ""
        raise Invalid(
            f"Training {features:,} features{several} on batches of {settings[0].batch_tokens:,} "
            f"tokens needs about {need / 1e9:.0f} GB but {model.device} has {have / 1e9:.0f} GB; "
            f"lower d_sae or train_batch_tokens{fewer}."
        )


def _numbers_in_memory(settings: Sequence[Settings]) -> int:
    """How many numbers a run holds at a time, about: a window and a forward's activations of each hook
    point, weights and Adam's two moments of every SAE, and what a step takes of the one that takes
    most."""
    first = settings[0]
    d_window = sum({one.hook_name: one.d_in for one in settings}.values())
    window = (first.window_batches * first.batch_tokens + first.forward_tokens) * d_window
    return window + 3 * sum(map(_weights, settings)) + max(map(step_numbers, settings))


def step_numbers(settings: Settings) -> int:
    """How many numbers a training step makes and holds at its peak, about and as measured: gradients,
    and activations of each token. Matching pursuit also keeps what is left after each of its rounds,
    and what the round took away."""
    rounds = settings.sparsity.get("max_iterations", 0)
    token = WIDTHS[settings.architecture] * settings.d_sae + (4 + 2 * rounds) * settings.d_in
    return _weights(settings) + settings.batch_tokens * token


def _weights(settings: Settings) -> int:
    return 2 * settings.d_in * settings.d_sae
