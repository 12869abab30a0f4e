"""Our loop is SAELens' own: on the same batches to the bit, on batches of its own as far as seeds tell."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from app.contract.jobs import Architecture
from bench.fidelity import NOISE, SEEDS, apart
from bench.runner import packed, quality, split, train_by_saelens
from tests.train.planted import CONTEXT, HOOK, Planted, random_sequences, spec
from worker.train.run import train
from worker.train.settings import resolve
from worker.train.stream import Activations
from worker.train.trainer import build, fold, set_scale

THRESHOLDED = ("batchtopk", "matryoshka_batchtopk")
"""Ours get their threshold from a sample, SAELens' from a moving average."""


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_on_the_same_batches_it_ends_in_the_same_weights(
    planted: Planted, tmp_path: Path, architecture: str
) -> None:
    wanted = spec(architecture=architecture, training_tokens=20 * 256, lr=3e-3)
    ours = tmp_path / "ours"
    sequences = random_sequences(80)
    train(wanted, planted.model, sequences, checkpoint_dir=tmp_path / "c", out_dir=ours)
    settings = resolve(wanted, planted.model)
    torch.manual_seed(settings.seed)
    trainer = build(settings, "planted", torch.device("cpu"))
    stream = Activations(planted.model, sequences, [settings])
    set_scale(trainer, stream.window(0, lambda: None)[HOOK])
    trainer.data_provider = (batch[HOOK] for batch in stream.batches(0, lambda: None))
    before = trainer.sae.W_dec.clone()
    trainer.fit()
    assert not torch.equal(before, trainer.sae.W_dec)
    fold(trainer)
    trainer.sae.save_inference_model(tmp_path)
    own, theirs = (load_file(path / "sae_weights.safetensors") for path in (ours, tmp_path))
    assert own.keys() == theirs.keys()
    for name in own.keys() - ({"threshold"} if architecture in THRESHOLDED else set()):
        assert torch.equal(own[name], theirs[name]), name


@pytest.mark.parametrize(
    ("architecture", "measures"),
    [
        ("standard", ["explained_variance", "l0"]),
        pytest.param("topk", ["explained_variance"], marks=pytest.mark.slow),
    ],
)
def test_it_ends_where_saelens_runner_ends(
    planted: Planted, tmp_path: Path, architecture: str, measures: list[str]
) -> None:
    """And shorter runs do not. The runner reads outputs of modules only."""
    model = planted.model
    rows = packed(planted.sequences, CONTEXT, model.bos_id)
    training, held_out = split(model, rows)

    def run(seed: int, by: str, steps: int = 50) -> dict[str, float]:
        hook = "blocks.0.hook_resid_post"
        wanted = spec(
            architecture=architecture,
            hook_name=hook,
            lr=3e-3,
            seed=seed,
            training_tokens=steps * 256,
        )
        out = tmp_path / f"{by} {seed}"
        if by == "SAELens":
            train_by_saelens(resolve(wanted, model), model, training, out)
        else:
            train(wanted, model, rows, checkpoint_dir=tmp_path / "checkpoints", out_dir=out)
        return quality(model, out, held_out)

    ours = [run(seed, "ours") for seed in SEEDS]
    theirs = [run(seed, "SAELens") for seed in SEEDS]
    shorter = [run(seed, "shorter", steps=25) for seed in SEEDS]
    for measure in measures:
        own, peer, other = ([one[measure] for one in runs] for runs in (ours, theirs, shorter))
        assert abs(apart(own, peer)) < NOISE, (measure, own, peer)
        assert abs(apart(other, peer)) > NOISE, (measure, other, peer)
