"""Training steps in bfloat16, as on GPUs that have it."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from app.contract.jobs import Architecture
from tests.train.planted import Planted, spec
from worker.train.settings import resolve
from worker.train.trainer import build, metrics, reconstruct, set_scale


def end(planted: Planted, architecture: str, autocast: bool) -> dict[str, float]:
    """Metrics of the last of 15 steps over the same batches from the same weights."""
    settings = resolve(
        spec(architecture=architecture, lr=3e-3, training_tokens=15 * 256), planted.model
    )
    assert not settings.autocast
    torch.manual_seed(0)
    trainer = build(replace(settings, autocast=autocast), "planted", torch.device("cpu"))
    embeddings = planted.model.hf.get_input_embeddings().weight.detach()
    set_scale(trainer, embeddings)
    for batch in embeddings[torch.randint(2, len(embeddings), (15 * 256,))].split(256):
        output = trainer.step(batch)
        trainer.n_training_steps += 1
    states = [weight for of in trainer.optimizer.state.values() for weight in of.values()]
    assert all(weight.dtype is torch.float32 for weight in [*trainer.sae.parameters(), *states])
    return metrics(trainer, output)


def test_metrics_of_equal_vectors_are_numbers(planted: Planted) -> None:
    trainer = build(resolve(spec(), planted.model), "planted", torch.device("cpu"))
    vectors = planted.model.hf.get_input_embeddings().weight.detach()
    set_scale(trainer, vectors)
    output = trainer.step(vectors[7].repeat(2, 1))
    assert metrics(trainer, output)["explained_variance"] == 0


def test_thresholds_that_a_step_left_below_zero_let_nothing_negative_through(
    planted: Planted,
) -> None:
    settings = resolve(spec(architecture="jumprelu"), planted.model)
    trainer = build(settings, "planted", torch.device("cpu"))
    vectors = planted.model.hf.get_input_embeddings().weight.detach()[:50]
    set_scale(trainer, vectors)
    trainer.sae.threshold.data.fill_(-1)
    below = reconstruct(trainer, vectors)
    trainer.sae.threshold.data.fill_(0)
    assert torch.equal(below, reconstruct(trainer, vectors))


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_a_step_in_bfloat16_learns_alike(planted: Planted, architecture: str) -> None:
    exact, rounded = (end(planted, architecture, autocast) for autocast in (False, True))
    assert rounded != exact
    assert exact["explained_variance"] > 0.05
    assert rounded["explained_variance"] == pytest.approx(exact["explained_variance"], abs=0.01)
    assert rounded["l0"] == pytest.approx(exact["l0"], rel=0.05)
