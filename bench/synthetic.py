"""A toy whose features are known, SAELens' own (`sae_lens.synthetic`), also as a language model.

Each of `FEATURES` unit vectors, as orthogonal as they go, is active by itself with probability
ACTIVE / FEATURES and with a strength of about 1. The language model has a token for each of a few
thousand such sums, which is its embedding, and no positions: so `blocks.0.hook_resid_pre` carries
them, and our loop trains on it as on any model.

Recovery is SAELens' MCC: the mean absolute cosine of features and decoder rows, matched one to one.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sae_lens.saes.sae import TrainingSAE
from sae_lens.synthetic import (
    ActivationGenerator,
    FeatureDictionary,
    SyntheticActivationIterator,
    mean_correlation_coefficient,
)

from app.contract.jobs import TrainSpec
from bench.models import make_embedded
from worker.models import LanguageModel
from worker.tokens import Sequences
from worker.train.settings import resolve
from worker.train.sparsity import L1_ARCHITECTURES
from worker.train.trainer import build

FEATURES, D_MODEL, ACTIVE = 64, 32, 3
VOCABULARY, CONTEXT = 4_000, 64
HOOK = "blocks.0.hook_resid_pre"


class Toy(NamedTuple):
    """The features, what draws their activations, and both as a model with a corpus."""

    features: FeatureDictionary
    generator: ActivationGenerator
    model: LanguageModel
    sequences: Sequences

    def mcc(self, decoder: torch.Tensor) -> float:
        """How well decoder rows [d_sae, D_MODEL] are the features, from 0 to 1."""
        return mean_correlation_coefficient(
            decoder.detach(), self.features.feature_vectors.detach()
        )


def make_toy(folder: Path, seed: int = 0) -> Toy:
    """Draw features and activations, and write the model to `folder`."""
    torch.manual_seed(seed)
    features = FeatureDictionary(FEATURES, D_MODEL, seed=seed)
    generator = ActivationGenerator(
        FEATURES, firing_probabilities=ACTIVE / FEATURES, std_firing_magnitudes=0.2
    )
    model = make_embedded(folder, features(generator.sample(VOCABULARY)).detach(), CONTEXT)
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, size=(400, CONTEXT), dtype=np.uint16)
    ids[:, 0] = 0
    sequences = Sequences(ids.reshape(-1), np.arange(401) * CONTEXT)
    return Toy(features, generator, model, sequences)


def toy_spec(architecture: str, steps: int, seed: int) -> TrainSpec:
    """As many features as there are, and as many active as are on average."""
    sparse = {} if architecture in L1_ARCHITECTURES else {"k": ACTIVE}
    return TrainSpec.model_validate({
        "model": "embedded", "sae": "0-toy", "hook_name": HOOK, "d_sae": FEATURES,
        "architecture": architecture, "training_tokens": steps * 256, "train_batch_tokens": 256,
        "lr": 3e-3, "seed": seed, **sparse,
    })  # fmt: skip


def train_toy_by_saelens(toy: Toy, spec: TrainSpec) -> TrainingSAE[Any]:
    """SAELens' own training on the toy at the same settings, which draws fresh activations for each
    batch."""
    settings = resolve(spec, toy.model)
    torch.manual_seed(settings.seed)
    trainer = build(settings, toy.model.id, toy.model.device)
    trainer.cfg.n_batches_for_norm_estimate = settings.window_batches
    trainer.data_provider = SyntheticActivationIterator(
        toy.features, toy.generator, settings.batch_tokens
    )
    with redirect_stderr(StringIO()):
        return trainer.fit()
