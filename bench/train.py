"""Training: a whole run against the work that no run can do without, and against SAELens' runner.

- floor: `training over floor`. Floor: the truncated forward over the training sequences, then
  SAETrainer.step on batches that are already in memory, mixed, in order. Ours: `train` from the call to
  the start of its evaluation, so with mixing, metrics, progress and a checkpoint. Beside it a plain
  PyTorch step in the place of SAETrainer's, and SAELens' own runner on the same tokens at the same
  settings (`bench.runner`), with what both SAEs are worth on the text that was held out.
- step: the step in bfloat16 and compiled (`bench.step`).

    python -m bench.train [--quick] [--device cuda] [floor] [step]

Medians of interleaved repeats. A quick run has a few steps, in which the runner's buffer and the starts
of everything weigh more: it shows that the bench works, not whether the promises hold.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from app.contract.jobs import TrainSpec
from bench.models import CONTEXT, HOOK, VOCABULARY, make_model
from bench.report import promise, report
from bench.runner import packed, quality, split, train_by_saelens
from bench.step import PlainSteps, Steps, compare_steps
from worker.activations import capture
from worker.models import LanguageModel
from worker.tokens import Sequences, batches
from worker.train.order import HELD_OUT_SHARE
from worker.train.run import train
from worker.train.settings import Settings, resolve
from worker.train.stream import Activations

PARTS = ("floor", "step")
ARCHITECTURES = {
    "topk": {"architecture": "topk", "k": 32},
    "standard": {"architecture": "standard"},
}


@dataclass(frozen=True)
class Case:
    """One configuration, with everything made beforehand."""

    name: str
    spec: TrainSpec
    model: LanguageModel
    sequences: Sequences
    folder: Path


def main(quick: bool, parts: list[str], device: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model", device=device)
        if "floor" in parts:
            for name in ARCHITECTURES:
                case = make_case(name, 2_048, 4_096, 8 if quick else 64, model, folder)
                compare(case, repeats=1 if quick else 5)
        if "step" in parts:
            for width in (1_024,) if quick else (4_096, 16_384):
                for name in ARCHITECTURES:
                    case = make_case(name, width, 256, 6, model, folder)
                    settings = resolve(case.spec, model)
                    kept = resident(case, settings)
                    compare_steps(name, settings, model, kept, turns=1 if quick else 2)
    report()


def make_case(
    name: str, width: int, batch: int, steps: int, model: LanguageModel, folder: Path
) -> Case:
    spec = TrainSpec.model_validate({
        "model": "bench", "sae": "2-bench", "hook_name": HOOK, "d_sae": width,
        "training_tokens": steps * batch, "train_batch_tokens": batch, **ARCHITECTURES[name],
    })  # fmt: skip
    return Case(f"{name} {width // 1_024}k", spec, model, make_sequences(steps * batch), folder)


def resident(case: Case, settings: Settings) -> list[torch.Tensor]:
    """All batches of the run, in memory."""
    stream = Activations(case.model, case.sequences, [settings])
    return [batch[HOOK].clone() for batch in stream.batches(0, lambda: None)]


def compare(case: Case, repeats: int) -> None:
    """Time floor, our run and the runner's in turn, and record the ratios of the medians."""
    settings, model = resolve(case.spec, case.model), case.model
    torch.set_float32_matmul_precision(settings.matmul_precision)  # ours sets it, the others do not
    kept = resident(case, settings)
    training, held_out = split(model, case.sequences)
    rows = packed(training, CONTEXT, model.bos_id)
    folders = {name: case.folder / f"{case.name} {name}" for name in ("ours", "SAELens' runner")}
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        taken["forward"].append(timed(lambda: run_forward(model, training, settings)))
        taken["step"].append(timed(lambda: Steps(settings, model, kept[0]).run(kept)))
        taken["plain step"].append(timed(lambda: PlainSteps(settings, kept[0]).run(kept)))
        taken["ours"].append(run_training(case, folders["ours"]))
        taken["SAELens' runner"].append(
            train_by_saelens(settings, model, rows, folders["SAELens' runner"])
        )
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    for name, step in (("floor", "step"), ("forward and plain step", "plain step")):
        floors = [sum(both) for both in zip(taken["forward"], taken[step], strict=True)]
        seconds[name] = statistics.median(floors)
    judged = {name: quality(model, folder, held_out) for name, folder in folders.items()}
    show(f"{case.name}, {settings.tokens:,} tokens", seconds, judged)
    promise("training over floor", case.name, seconds["ours"] / seconds["floor"], "<= 1.15")
    runner = seconds["ours"] / seconds["SAELens' runner"]
    promise("training over SAELens' runner", case.name, runner, "<= 1")


def show(title: str, seconds: dict[str, float], judged: dict[str, dict[str, float]]) -> None:
    """What was timed, as a ratio to ours, and what the SAEs are worth."""
    measures = list(judged["ours"])
    table = Table("what", "seconds", "ours over it", *measures, title=title)
    for name, value in sorted(seconds.items(), key=lambda item: item[1]):
        worth = [f"{judged[name][measure]:.4f}" for measure in measures if name in judged]
        table.add_row(name, f"{value:.2f}", f"{seconds['ours'] / value:.2f}", *worth)
    Console(width=120).print(table)


def run_forward(model: LanguageModel, training: Sequences, settings: Settings) -> None:
    """The truncated forward over what is trained on."""
    for batch in batches(training, settings.forward_tokens):
        capture(model, batch.ids, [HOOK])


def run_training(case: Case, folder: Path) -> float:
    """Seconds of a training run up to its evaluation; the SAE is in `folder` afterwards."""
    start, end = time.perf_counter(), 0.0

    def progress(phase: str, *_: object, **__: object) -> None:
        nonlocal end
        end = end or (time.perf_counter() if phase == "evaluate" else 0.0)

    shutil.rmtree(folder, ignore_errors=True)
    train(
        case.spec,
        case.model,
        case.sequences,
        checkpoint_dir=case.folder / "checkpoints",
        out_dir=folder,
        progress=progress,
    )
    return end - start


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_sequences(tokens: int) -> Sequences:
    """Documents of 32 to 128 tokens with Zipf's frequencies, BOS first; `tokens` without BOS are
    one epoch's, and every tenth document is held out beside them."""
    random = np.random.default_rng(0)
    frequency = 1 / np.arange(1, VOCABULARY)
    lengths: list[int] = []
    trained = 0
    while trained < tokens:
        lengths.append(int(random.integers(32, CONTEXT + 1)))
        trained += lengths[-1] - 1 if len(lengths) % HELD_OUT_SHARE else 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = random.choice(
        np.arange(1, VOCABULARY), size=offsets[-1], p=frequency / frequency.sum()
    ).astype(np.uint16)
    flat[offsets[:-1]] = 0
    return Sequences(flat, offsets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all when none is named")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=found, help=f"by default {found}")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    main(options.quick, options.parts or list(PARTS), options.device)
