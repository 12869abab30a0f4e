"""The part of the evidence that follows from weights alone; it costs the same for any corpus."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from worker.models import LanguageModel
from worker.precompute.logits import Unembedding, nothing_promoted
from worker.precompute.neighbors import nearest
from worker.precompute.neurons import aligned_neurons
from worker.precompute.residual import to_residual
from worker.saes import Dictionary

Pair = tuple[np.ndarray, np.ndarray]
"""int32 ids and float32 values, [features, n] each."""


@dataclass(frozen=True)
class WeightEvidence:
    """Of a range of features, as `FeatureBatch` takes it."""

    top_logits: Pair
    bottom_logits: Pair
    logit_range: np.ndarray
    """float32 [features, 2]."""
    logit_counts: np.ndarray
    """int32 [features, bins]."""
    neighbors: Pair
    neurons: tuple[np.ndarray, np.ndarray, np.ndarray]


def weight_evidence(
    model: LanguageModel, unembedding: Unembedding, dictionary: Dictionary, first: int, stop: int
) -> WeightEvidence:
    """Logits, neighbours and neurons of features `first` to `stop`.

    Neurons as features have neither neighbours nor neurons: their directions are the axes.
    """
    own = torch.arange(first, stop, device=dictionary.scale.device)
    directions = dictionary.directions(own)
    residual = to_residual(model, dictionary.hook_out, directions)
    promoted = nothing_promoted(len(own)) if residual is None else unembedding.promoted(residual)
    none = torch.empty(len(own), 0)
    neighbors, neurons = (none, none), (none, none, none)
    if dictionary.decoder.rows is not None:
        neighbors = nearest(dictionary.decoder.rows, first, stop)
        neurons = aligned_neurons(model, dictionary.hook_out, directions)
    return WeightEvidence(
        top_logits=_pair(*promoted.top),
        bottom_logits=_pair(*promoted.bottom),
        logit_range=promoted.range.cpu().numpy(),
        logit_counts=promoted.counts.cpu().numpy(),
        neighbors=_pair(*neighbors),
        neurons=(_ids(neurons[0]), *_pair(*neurons[1:])),
    )


def _pair(ids: torch.Tensor, values: Float[torch.Tensor, "features n"]) -> Pair:
    return _ids(ids), values.cpu().numpy()


def _ids(ids: torch.Tensor) -> np.ndarray:
    return ids.int().cpu().numpy()
