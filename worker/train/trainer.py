"""SAELens' training classes and SAETrainer, set up as its own runner would set them up.

- `topk`: TopKTrainingSAE. The k strongest pre-activations (weighted by decoder norms) stay; dead
  features are revived by the auxiliary loss of Gao et al. 2024 (arXiv:2406.04093).
- `standard`: StandardTrainingSAE, ReLU and L1 in the textbook form: the mean over tokens of
  |x - x̂|² + λ Σ_i f_i ‖d_i‖, the L1 term on activations times decoder norms (Anthropic,
  April 2024 update), so that shrinking activations and growing decoder rows gains nothing.
- the others are named in `worker.train.sparsity`. Those that are saved as jumprelu with one
  threshold for all features get it from a sample at the end (`set_threshold`): SAELens' own, a
  moving average of each batch's smallest winner, is far off after a short run.

Activations are scaled to a mean norm of sqrt(d_in) before they reach the SAE, so that λ and the
learning rate mean the same at every hook point; the factor is folded into the weights at the end.
Losses are in scaled units.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitTrainingSAE
from sae_lens.saes.sae import SAEMetadata, TrainingSAE, TrainStepOutput
from sae_lens.training.sae_trainer import SAETrainer

from app.errors import Invalid
from worker.building import one_at_a_time
from worker.train.settings import Settings

THRESHOLD_TOKENS = 4_096
"""Of a sample on which a threshold is set."""
_BLOCK = 2**24
"""Numbers in one block of pre-activations."""


def build(settings: Settings, model_id: str, device: torch.device) -> SAETrainer:
    """A trainer at step 0. Weights are drawn from torch's global random generator."""
    config = SAETrainerConfig(
        total_training_samples=settings.tokens,
        train_batch_size_samples=settings.batch_tokens,
        lr=settings.lr,
        lr_end=settings.lr,  # must be given; the constant schedule and its decay to 0 ignore it
        lr_warm_up_steps=settings.lr_warm_up_steps,
        lr_decay_steps=settings.lr_decay_steps,
        device=str(device),
        autocast=settings.autocast,
        dead_feature_window=settings.dead_feature_window,
        feature_sampling_window=settings.sparsity_window,
    )
    return SAETrainer(config, _sae(settings, model_id, device), data_provider=iter(()))


@one_at_a_time
def _sae(settings: Settings, model_id: str, device: torch.device) -> TrainingSAE[Any]:
    sae_class, config_class = get_sae_training_class(settings.architecture)
    metadata = SAEMetadata(
        model_name=model_id,
        hook_name=settings.hook_name,
        hook_head_index=None,
        context_size=settings.context_size,
        prepend_bos=settings.prepend_bos,
        seqpos_slice=(None,),
        model_class_name="HookedTransformer",
        model_from_pretrained_kwargs={},
        exclude_special_tokens=True,
        disable_concat_sequences=True,
    )
    config = config_class(
        d_in=settings.d_in,
        d_sae=settings.d_sae,
        device=str(device),
        normalize_activations="expected_average_only_in",
        reshape_activations="hook_z" if settings.hook_name.endswith("hook_z") else "none",
        metadata=metadata,
        **settings.sparsity,
    )
    return sae_class(config)


def set_scale(trainer: SAETrainer, activations: Float[torch.Tensor, "tokens d_in"]) -> None:
    """Estimate the activation scaler's factor sqrt(d_in) / E‖x‖ on a sample.

    Raises:
        Invalid: the activations are all the same or not finite.
    """
    # On the CPU: Metal has no float64.
    mean_norm = activations.norm(dim=-1).cpu().mean(dtype=torch.float64).item()
    if not math.isfinite(mean_norm) or bool((activations == activations[0]).all()):
        what = "all the same" if math.isfinite(mean_norm) else "not finite"
        raise Invalid(
            f"The activations at {trainer.sae.cfg.metadata.hook_name} are {what}, so there is "
            "nothing to learn; choose another hook point or other text."
        )
    trainer.activation_scaler.scaling_factor = math.sqrt(activations.shape[1]) / mean_norm


@torch.no_grad()
def set_threshold(
    trainer: SAETrainer, activations: Callable[[], Float[torch.Tensor, "tokens d_in"]]
) -> None:
    """Where one threshold decides, put it where `k` features a token are active on some tokens, which
    are asked for only then."""
    sae = trainer.sae
    if not isinstance(sae, BatchTopKTrainingSAE):
        return
    sample = trainer.activation_scaler.scale(activations()[:THRESHOLD_TOKENS])
    wanted = min(round(sae.cfg.k * len(sample)), len(sample) * sae.cfg.d_sae - 1)
    strongest = sample.new_empty(0)
    for x in sample.split(_BLOCK // sae.cfg.d_sae + 1):
        reached = torch.cat([strongest, sae.encode_with_hidden_pre(x)[1].flatten()])
        strongest = reached.topk(min(wanted + 1, reached.numel())).values
    # Between the last that is to be active and the next, which a threshold has to be above.
    sae.topk_threshold.fill_(strongest[-2:].double().mean().clamp(min=0))


def metrics(trainer: SAETrainer, output: TrainStepOutput) -> dict[str, float]:
    """Metrics of one batch: loss and mse in scaled units, `dead_fraction` a share of all
    features, `explained_variance` 0 where the batch has none, as scikit-learn's `r2_score`.

    Raises:
        Invalid: the loss is no longer finite.
    """
    logged = trainer.build_train_step_log_dict(output, trainer.n_training_samples)
    if not math.isfinite(logged["losses/overall_loss"]):
        raise diverged(trainer, "the loss is")
    explained = logged["metrics/explained_variance"]
    return {
        "loss": logged["losses/overall_loss"],
        "mse": logged["losses/mse_loss"],
        "explained_variance": explained if math.isfinite(explained) else 0.0,
        "l0": logged["metrics/l0"],
        "dead_fraction": logged["sparsity/dead_features"] / trainer.sae.cfg.d_sae,
    }


def reconstruct(
    trainer: SAETrainer, activations: Float[torch.Tensor, "tokens d_in"]
) -> Float[torch.Tensor, "tokens d_in"]:
    """What the SAE makes of activations as it is now, in their units."""
    scaler, sae = trainer.activation_scaler, trainer.sae
    active = sae.encode(scaler.scale(activations))
    if isinstance(sae, JumpReLUTrainingSAE):
        # A step may leave thresholds below 0, which neither the next step nor what is saved has.
        active = active.relu()
    return scaler.unscale(sae.decode(active))


def fold(trainer: SAETrainer) -> None:
    """Fold the activation scaler and the decoder norms into the weights, and note L0 and dead
    features in the metadata. The SAE then reads raw activations, and its own activations are in
    folded units, but for matching pursuit, whose rounds depend on the decoder's norms. The trainer
    cannot train on after it.

    Raises:
        Invalid: the weights are no longer finite.
    """
    factor = trainer.activation_scaler.scaling_factor
    if factor is not None:
        trainer.sae.fold_activation_norm_scaling_factor(factor)
        trainer.activation_scaler.scaling_factor = None
    if not isinstance(trainer.sae, MatchingPursuitTrainingSAE):
        trainer.sae.fold_W_dec_norm()
    if not all(bool(weight.isfinite().all()) for weight in trainer.sae.parameters()):
        raise diverged(trainer, "the weights are")
    trainer.set_final_sae_metadata()


def diverged(trainer: SAETrainer, what: str) -> Invalid:
    """A problem that names the step and the learning rate; `what` ends in a verb."""
    return Invalid(
        f"Training diverged at step {trainer.n_training_steps} ({what} not finite); use a learning "
        f"rate below {trainer.cfg.lr:g}."
    )
