"""Several SAEs from one forward: each ends as if it was trained alone, and nothing is done twice."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.training.sae_trainer import SAETrainer

from app.contract.jobs import TrainSpec
from app.errors import Invalid
from tests.train.planted import D_MODEL, Planted, spec
from worker.activations import capture
from worker.progress import Cancelled, Progress, silent
from worker.train import stream
from worker.train.run import train, train_all
from worker.train.several import each

STEPS = 20
MLP = "blocks.1.mlp.hook_post"
ALSO: list[dict[str, Any]] = [
    {"sae": "0-relu", "architecture": "standard"},
    {"sae": "1-mlp", "hook_name": MLP, "architecture": "batchtopk", "k": 4, "lr": 2e-3},
    {"sae": "0-gated", "architecture": "gated", "d_sae": 64, "l1_coefficient": 0.5},
]


def wanted_of(also: Sequence[dict[str, Any]], **changes: Any) -> TrainSpec:
    """Twenty steps of several SAEs."""
    return spec(also=list(also), training_tokens=STEPS * 256, **changes)


def go(
    planted: Planted,
    folder: Path,
    wanted: TrainSpec,
    progress: Progress = silent,
    checkpoint_seconds: float = 30.0,
) -> list[Path]:
    folders = [folder / str(number) for number in range(len(each(wanted)))]
    train_all(
        wanted,
        planted.model,
        planted.sequences,
        checkpoint_dir=folder / "checkpoints",
        out_dirs=folders,
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
    )
    return folders


def contents(folders: Sequence[Path]) -> list[dict[str, bytes]]:
    return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]


@pytest.fixture(scope="module")
def together(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    return contents(go(planted, tmp_path_factory.mktemp("together"), wanted_of(ALSO)))


def test_what_is_absent_is_as_the_specification_says() -> None:
    first, relu, mlp, gated = each(spec(also=ALSO, lr=3e-3, seed=7))
    assert first == spec(lr=3e-3, seed=7)
    assert relu == spec(sae="0-relu", architecture="standard", lr=3e-3, seed=7)
    assert (mlp.hook_name, mlp.k, mlp.lr, mlp.d_sae, mlp.seed) == (MLP, 4, 2e-3, 128, 7)
    assert (gated.k, gated.l1_coefficient, gated.d_sae) == (None, 0.5, 64)
    assert each(spec(architecture="standard", l1_coefficient=2.0, also=[
        {"sae": "0-k", "architecture": "topk"}]))[1].l1_coefficient is None  # fmt: skip


def test_beside_others_or_alone_the_bytes_are_the_same(
    planted: Planted, tmp_path: Path, together: list[dict[str, bytes]]
) -> None:
    for number, alone in enumerate(each(wanted_of(ALSO))):
        assert contents(go(planted, tmp_path / str(number), alone)) == [together[number]]
    assert len({one["sae_weights.safetensors"] for one in together}) == len(together)


def test_each_draws_its_own_random_numbers(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trainer of SAELens draws any in a step, so here they are made to."""
    step = SAETrainer.step
    monkeypatch.setattr(
        SAETrainer, "step", lambda self, x: step(self, x + 0.1 * torch.randn_like(x))
    )
    wanted = wanted_of(ALSO[:2])
    beside = contents(go(planted, tmp_path / "beside", wanted))
    for number, alone in enumerate(each(wanted)):
        assert contents(go(planted, tmp_path / str(number), alone)) == [beside[number]]
    with pytest.raises(Cancelled):
        go(planted, tmp_path / "ended", wanted, Until(half_trained), 0.0)
    assert contents(go(planted, tmp_path / "ended", wanted)) == beside


class Until:
    """Cancels when a report of progress is as wanted; keeps what was said of the metrics."""

    def __init__(self, wanted: Callable[[str, float, float], bool]) -> None:
        self._wanted = wanted
        self.metrics: dict[str, float] = {}

    def __call__(
        self,
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        self.metrics.update(metrics or {})
        if self._wanted(phase, done, total):
            raise Cancelled


def half_evaluated(phase: str, done: float, total: float) -> bool:
    """Two of four SAEs are written, the third is about to be."""
    return phase == "evaluate" and done > total / 2


def half_trained(phase: str, done: float, total: float) -> bool:
    return done > total / 2


def trained(phase: str, done: float, total: float) -> bool:
    return phase == "evaluate"


@pytest.mark.parametrize(("end", "count"), [(half_evaluated, 2), (half_trained, 0)])
def test_ended_anywhere_and_gone_on_the_bytes_are_the_same(
    planted: Planted,
    tmp_path: Path,
    together: list[dict[str, bytes]],
    end: Callable[[str, float, float], bool],
    count: int,
) -> None:
    with pytest.raises(Cancelled):
        go(planted, tmp_path, wanted_of(ALSO), Until(end), 0.2)
    written = [path for path in tmp_path.glob("[0-9]") if path.is_dir()]
    assert len(written) == count
    before = {path: path.stat().st_ino for path in written}
    torch.manual_seed(1)
    assert contents(go(planted, tmp_path, wanted_of(ALSO))) == together
    assert before == {path: path.stat().st_ino for path in written}


def test_one_forward_and_one_window_serve_all(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many forwards as for the deepest SAE alone; SAEs at one hook point read the same memory,
    which batch after batch is a slice of one window."""
    forwards: list[int] = []
    read = defaultdict[SAETrainer, list[int]](list)
    step = SAETrainer.step

    def watched(self: SAETrainer, batch: torch.Tensor) -> Any:
        read[self].append(batch.data_ptr())
        return step(self, batch)

    def counted(*given: Any) -> Any:
        forwards.append(1)
        return capture(*given)

    monkeypatch.setattr(SAETrainer, "step", watched)
    monkeypatch.setattr(stream, "capture", counted)
    with pytest.raises(Cancelled):
        go(planted, tmp_path / "alone", each(wanted_of(ALSO))[2], Until(trained))
    alone = len(forwards)
    read.clear()
    with pytest.raises(Cancelled):
        go(planted, tmp_path / "beside", wanted_of(ALSO), Until(trained))
    assert len(forwards) == 2 * alone > 2
    first, relu, mlp, gated = read.values()
    assert first == relu == gated != mlp
    assert first == [first[0] + 4 * D_MODEL * 256 * number for number in range(STEPS)]


def test_metrics_carry_the_id_of_their_sae(planted: Planted, tmp_path: Path) -> None:
    heard = Until(trained)
    with pytest.raises(Cancelled):
        go(planted, tmp_path, spec(also=ALSO[:1], training_tokens=512), heard)
    assert {"0-test.loss", "0-relu.loss", "0-relu.l0"} <= set(heard.metrics)
    assert heard.metrics["0-test.l0"] == 3 < heard.metrics["0-relu.l0"]


def test_what_diverges_is_named(planted: Planted, tmp_path: Path) -> None:
    wild = {"sae": "0-wild", "architecture": "standard", "lr": 1e30}
    with pytest.raises(Invalid, match=r"^0-wild: Training diverged at step \d+ "):
        go(planted, tmp_path, spec(also=[wild]))


def test_one_folder_is_for_one_sae(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        train(
            spec(also=ALSO),
            planted.model,
            planted.sequences,
            checkpoint_dir=tmp_path / "checkpoints",
            out_dir=tmp_path / "sae",
        )
