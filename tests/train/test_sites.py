"""Every hook point that can be captured can be trained on, in models of other designs too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE

from tests.train.planted import random_sequences, spec
from tests.worker.tiny import ModelKind, save_model
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.saes import load_sae
from worker.sites import STEERABLE_HOOKS
from worker.tokens import Sequences
from worker.train.run import train


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LanguageModel:
    kind: ModelKind = request.param
    folder = tmp_path_factory.mktemp("model")
    return load_model(f"tiny-{kind}", save_model(folder, kind))


def sequences(model: LanguageModel) -> Sequences:
    made = random_sequences(count=60)
    return Sequences(np.where(made.flat < 2, made.flat, 2 + made.flat % 300), made.offsets)


def test_every_site_trains_saves_and_loads(model: LanguageModel, tmp_path: Path) -> None:
    names = [name for name in model.sites if name.startswith("blocks.1.")]
    assert {f"blocks.1.{hook}" for hook in STEERABLE_HOOKS} <= set(names)
    for name in names:
        trained = train(
            spec(model=model.id, hook_name=name, d_sae=None, training_tokens=3 * 256),
            model,
            sequences(model),
            checkpoint_dir=tmp_path / "checkpoints",
            out_dir=tmp_path / name,
        )
        assert_reads_alike(model, name, trained)


def assert_reads_alike(model: LanguageModel, name: str, trained: Path) -> None:
    """Our activations are SAELens' own, which wants the heads of `hook_z` apart."""
    ours = load_sae("1-test", trained, model=model)
    assert (ours.d_in, ours.d_sae) == (model.sites[name].width, 8 * model.sites[name].width)
    x = capture(model, torch.arange(2, 40)[None], [name])[name][0]
    heads = x.unflatten(-1, (4, -1)) if name.endswith("hook_z") else x
    expected = SAE.load_from_disk(trained).encode(heads).detach()
    assert expected.max() > 0
    assert torch.allclose(ours.encode(x), expected, atol=1e-5 * float(expected.max()))
