"""What training is for: planted directions are found, and the result is what SAELens reads."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from sae_lens import SAE

from app.contract.jobs import Architecture
from app.errors import Conflict, Invalid
from tests.train.planted import ACTIVE, HOOK, Planted, spec
from worker.activations import capture
from worker.evaluate import evaluate
from worker.saes import load_sae
from worker.tokens import Sequences
from worker.train.loss_score import TOKENS
from worker.train.order import beginning, hold_out, take
from worker.train.run import train
from worker.train.sparsity import L1_ARCHITECTURES

FOUND = {"abstopk": 0.93, "matryoshka_batchtopk": 0.93}
"""Recovery, where it is less than 0.97."""
LONG = {"training_tokens": 600 * 256, "lr": 3e-3}


ARCHITECTURES = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"train-{name}"))
    for name in get_args(Architecture)
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def trained(
    planted: Planted, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    wanted = spec(architecture=request.param, **LONG)
    return run(planted, folder, wanted)


def run(planted: Planted, folder: Path, wanted, name: str = "sae", **options) -> Path:
    return train(
        wanted,
        planted.model,
        planted.sequences,
        checkpoint_dir=folder / "checkpoints",
        out_dir=folder / name,
        **options,
    )


def recovery(decoder: torch.Tensor, directions: torch.Tensor, either_way: bool = False) -> float:
    """Mean over directions of the largest cosine with a decoder row, which may point backwards."""
    cosines = directions @ torch.nn.functional.normalize(decoder, dim=1).T
    return float((cosines.abs() if either_way else cosines).amax(1).mean())


def architecture_of(trained: Path) -> str:
    provenance = json.loads((trained / "saescope.json").read_text())["provenance"]
    return provenance["settings"]["architecture"]


def test_planted_directions_are_found(planted: Planted, trained: Path) -> None:
    decoder = SAE.load_from_disk(trained).W_dec.data
    torch.manual_seed(1)
    # Activations of an abstopk SAE have signs, so its directions do not matter.
    either_way = architecture_of(trained) == "abstopk"
    assert recovery(torch.randn_like(decoder), planted.directions, either_way) < 0.5
    assert recovery(decoder, planted.directions, either_way) > FOUND.get(
        architecture_of(trained), 0.97
    )


def test_the_curve_shows_it(trained: Path) -> None:
    curve = json.loads((trained / "curve.json").read_text())
    metrics = curve["metrics"]
    assert set(metrics) == {
        "loss", "mse", "explained_variance", "ce_loss_score", "l0", "dead_fraction"
    }  # fmt: skip
    assert all(len(values) == len(curve["tokens"]) == 200 for values in metrics.values())
    assert curve["tokens"] == [3 * 256 * point for point in range(1, 201)]
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]
    assert metrics["mse"][-1] < 0.15 * metrics["mse"][0]
    assert metrics["explained_variance"][-1] > 0.85
    assert metrics["ce_loss_score"][-1] > 0.8 > metrics["ce_loss_score"][0]


def recovered(planted: Planted, trained: Path) -> float | None:
    """`evaluate`'s score of what was saved, on the text of the curve's."""
    lengths = np.diff(planted.sequences.offsets) - 1
    first = beginning(take(planted.sequences, hold_out(lengths)[1]), TOKENS)
    cut = Sequences(first.flat[:TOKENS], first.offsets.clip(max=TOKENS))
    dictionary = load_sae("0-test", trained, model=planted.model)
    return evaluate(planted.model, dictionary, cut, "").ce_loss_score


def loss_score(trained: Path) -> list[float]:
    return json.loads((trained / "curve.json").read_text())["metrics"]["ce_loss_score"]


def test_the_loss_recovered_is_that_of_what_is_saved(planted: Planted, trained: Path) -> None:
    threshold = "batchtopk" in architecture_of(trained)
    near = 0.05 if threshold else 1e-4
    assert loss_score(trained)[-1] == pytest.approx(recovered(planted, trained), abs=near)


@pytest.mark.parametrize(
    ("hook", "near"),
    # This model's second attention hardly matters to the loss, so that rounding shows in its share.
    [("blocks.1.hook_resid_mid", 1e-4), ("blocks.1.attn.hook_z", 0.02)],
)
def test_the_loss_recovered_is_measured_now_and_then(
    planted: Planted, tmp_path: Path, hook: str, near: float
) -> None:
    """Once in a hundred times as many tokens, and at the end; it stays until it is measured again."""
    trained = run(planted, tmp_path, spec(hook_name=hook, training_tokens=1_000 * 256))
    told = loss_score(trained)
    assert told[-1] == pytest.approx(recovered(planted, trained), abs=near)
    changed = [point for point in range(1, 199) if told[point] != told[point - 1]]
    assert changed == list(range(40, 199, 40))  # 5 steps of 256 a point, and 512 tokens


def test_held_out_text_is_explained_too(trained: Path) -> None:
    evaluation = json.loads((trained / "saescope.json").read_text())["evaluation"]
    assert evaluation["measured_on"]["tokens"] > 0
    assert evaluation["explained_variance"] > 0.85
    if architecture_of(trained) in L1_ARCHITECTURES:
        assert 1 < evaluation["l0"] < 12
    else:
        near = 0.2 if architecture_of(trained) == "jumprelu" else 0.1
        assert abs(evaluation["l0"] - ACTIVE) < near * ACTIVE


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_a_threshold_fits_after_a_short_run_too(
    planted: Planted, tmp_path: Path, architecture: str
) -> None:
    trained = run(planted, tmp_path, spec(architecture=architecture))
    evaluation = json.loads((trained / "saescope.json").read_text())["evaluation"]
    assert evaluation["l0"] == pytest.approx(ACTIVE, rel=0.1)


def test_saelens_reads_it_and_encodes_as_we_do(planted: Planted, trained: Path) -> None:
    """Decoder rows have unit length, so SAELens' own activations are in folded units."""
    theirs = SAE.load_from_disk(trained)
    ours = load_sae("0-test", trained, model=planted.model)
    assert theirs.cfg.normalize_activations == "none"
    lengths = theirs.W_dec.norm(dim=1)
    if architecture_of(trained) == "matching_pursuit":
        # What a round takes away depends on them, so they stay as they are, near 1.
        assert bool(((lengths - 1).abs() < 0.2).all())
    else:
        assert torch.allclose(lengths, torch.ones(theirs.cfg.d_sae), atol=1e-5)
    ids = torch.from_numpy(planted.sequences.flat[1:40].astype(np.int64))[None]
    x = capture(planted.model, ids, [HOOK])[HOOK][0]
    expected = theirs.encode(x).detach() * lengths
    assert expected.max() > 0.1
    assert torch.allclose(ours.encode(x), expected, atol=1e-5 * float(expected.max()))
    assert torch.allclose(ours.decode(ours.encode(x), x), theirs(x).detach(), atol=1e-5)


def test_scaled_training_ends_in_raw_units(planted: Planted, trained: Path) -> None:
    """The reconstruction has the size of the raw activation, which is nowhere near sqrt(d_in)."""
    x = planted.model.hf.get_input_embeddings().weight[2:500]
    reconstructed = SAE.load_from_disk(trained)(x).detach()
    assert 0.7 < float(reconstructed.norm(dim=1).mean() / x.norm(dim=1).mean()) < 1.1


def test_metadata_names_model_and_hook(trained: Path) -> None:
    metadata = SAE.load_from_disk(trained).cfg.metadata
    assert metadata.model_name == "planted"
    assert metadata.hook_name == HOOK
    assert (metadata.context_size, metadata.prepend_bos) == (64, True)
    assert metadata.l0 > 0


def test_provenance_says_how_it_was_made(planted: Planted, trained: Path) -> None:
    provenance = json.loads((trained / "saescope.json").read_text())["provenance"]
    assert provenance["model_fingerprint"] == planted.model.fingerprint
    assert provenance["steps"] * 256 == provenance["tokens"] == 600 * 256
    assert provenance["settings"]["lr"] == 3e-3
    assert provenance["corpus"]["bundled"] == "storyworld"


def test_nothing_written_knows_where_it_was_written(planted: Planted, tmp_path: Path) -> None:
    own = {"path": str(tmp_path / "texts.jsonl"), "text_field": "text"}
    trained = run(planted, tmp_path, spec(corpus=own, training_tokens=10 * 256))
    for path in trained.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
        assert b"/tmp" not in path.read_bytes()
    corpus = json.loads((trained / "saescope.json").read_text())["provenance"]["corpus"]
    assert corpus["path"] == "texts.jsonl"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_seed_decides_the_bytes(planted: Planted, tmp_path: Path) -> None:
    first = contents(run(planted, tmp_path / "a", spec(seed=5)))
    torch.manual_seed(99)
    again = contents(run(planted, tmp_path / "b", spec(seed=5)))
    other = contents(run(planted, tmp_path / "c", spec(seed=6)))
    assert first == again
    assert first["sae_weights.safetensors"] != other["sae_weights.safetensors"]


def test_random_numbers_of_the_process_are_left_alone(planted: Planted, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(planted, tmp_path, spec(training_tokens=2 * 256))
    assert torch.equal(torch.rand(4), expected)


def test_progress_tells_tokens_rate_and_metrics(planted: Planted, tmp_path: Path) -> None:
    heard: list[tuple] = []
    run(planted, tmp_path, spec(), progress=lambda *report: heard.append(report))
    steps = [report for report in heard if report[0] == "train"]
    assert steps[-1][1] == steps[-1][2] == 60 * 256
    assert [done for _, done, *_ in steps] == sorted(done for _, done, *_ in steps)
    assert steps[-1][3] > 0 and steps[-1][4]["l0"] == 3
    assert heard[-1][0] == "evaluate"


def test_a_finished_run_is_not_run_again(planted: Planted, tmp_path: Path) -> None:
    trained = run(planted, tmp_path, spec(training_tokens=512))
    heard: list[str] = []
    run(planted, tmp_path, spec(training_tokens=512), progress=lambda *r: heard.append(r[0]))
    assert heard == [] and trained.is_dir() and not (tmp_path / "checkpoints").exists()
    with pytest.raises(Conflict, match="already there"):
        run(planted, tmp_path, spec(training_tokens=512, seed=1))


def test_a_diverged_run_says_so(planted: Planted, tmp_path: Path) -> None:
    wild = spec(architecture="standard", lr=1e30)
    with pytest.raises(Invalid, match=r"diverged at step \d+ .* learning rate below 1e\+30"):
        run(planted, tmp_path, wild)
    assert not (tmp_path / "sae").exists()


def test_a_run_that_diverges_in_its_last_step_says_so(planted: Planted, tmp_path: Path) -> None:
    """The loss of that step is still finite; the weights after it are not."""
    wild = spec(architecture="standard", lr=1e30, training_tokens=256)
    with pytest.raises(Invalid, match=r"diverged at step 1 .* learning rate below 1e\+30"):
        run(planted, tmp_path, wild)


def test_the_last_step_is_on_the_curve(planted: Planted, tmp_path: Path) -> None:
    trained = run(planted, tmp_path, spec(training_tokens=401 * 256))
    curve = json.loads((trained / "curve.json").read_text())
    assert curve["tokens"][-3:] == [398 * 256, 400 * 256, 401 * 256]


def test_constant_activations_are_refused(planted: Planted, tmp_path: Path) -> None:
    flat = planted.sequences.flat.copy()
    flat[flat != 0] = 7
    with pytest.raises(Invalid, match="are all the same"):
        run(Planted(planted.model, planted.directions, type(planted.sequences)(
            flat, planted.sequences.offsets)), tmp_path, spec())  # fmt: skip


def test_a_bfloat16_model_trains_a_float32_sae(planted: Planted, tmp_path: Path) -> None:
    planted.model.hf.to(torch.bfloat16)
    try:
        trained = run(planted, tmp_path, spec(training_tokens=512))
    finally:
        planted.model.hf.to(torch.float32)
    assert SAE.load_from_disk(trained).W_dec.dtype == torch.float32
    shutil.rmtree(trained)
