"""Features that SAELens' own generator plants are found, as well as SAELens' own training finds them."""

from pathlib import Path

import pytest
import torch
from sae_lens import SAE

from bench.synthetic import D_MODEL, FEATURES, Toy, make_toy, toy_spec, train_toy_by_saelens
from worker.activations import capture
from worker.train.run import train


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("toy"))


@torch.no_grad()
def test_the_model_carries_what_the_generator_draws(toy: Toy) -> None:
    hook = "blocks.0.hook_resid_pre"
    x = capture(toy.model, torch.arange(4_000)[None, 1:64], [hook])[hook][0]
    embeddings = toy.model.hf.get_input_embeddings().weight
    assert torch.equal(x, embeddings[1:64])
    drawn = toy.features(toy.generator.sample(4_000))
    assert float(embeddings.norm(dim=1).mean() / drawn.norm(dim=1).mean()) == pytest.approx(
        1, abs=0.05
    )


@pytest.mark.parametrize(
    ("architecture", "steps", "level"),
    [("topk", 200, 0.75), pytest.param("standard", 500, 0.85, marks=pytest.mark.slow)],
)
def test_planted_features_are_found_as_saelens_finds_them(
    toy: Toy, tmp_path: Path, architecture: str, steps: int, level: float
) -> None:
    spec = toy_spec(architecture, steps, seed=0)
    train(spec, toy.model, toy.sequences, checkpoint_dir=tmp_path / "c", out_dir=tmp_path / "sae")
    ours = toy.mcc(SAE.load_from_disk(tmp_path / "sae").W_dec)
    theirs = toy.mcc(train_toy_by_saelens(toy, spec).W_dec)
    torch.manual_seed(1)
    assert toy.mcc(torch.randn(FEATURES, D_MODEL)) < level - 0.2
    assert ours > level
    assert ours > theirs - 0.05
