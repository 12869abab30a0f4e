"""A training run from specification to SAE folder.

1. Refuse what cannot work; work out the settings.
2. Build the trainer; put the last checkpoint into it, or estimate the activation scale.
3. Step over the stream of activations; report, keep metrics, write a checkpoint now and then.
4. Set a threshold where one is needed, fold the scales into the weights, evaluate on held-out text,
   write the folder.

Killed anywhere and called again with the same arguments, it ends in the same bytes (on CPU with
the same number of threads).
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from sae_lens.training.sae_trainer import SAETrainer

from app.contract.jobs import CorpusFile, TrainSpec
from app.errors import Conflict
from worker.evaluate import evaluate
from worker.models import LanguageModel
from worker.progress import Progress, silent
from worker.saes import load_sae
from worker.tokens import Sequences, corpus_fingerprint
from worker.train.check import check
from worker.train.checkpoint import Curve, restore, save
from worker.train.export import export, provenance_of
from worker.train.settings import Settings, resolve
from worker.train.stream import Activations
from worker.train.trainer import build, fold, metrics, set_scale, set_threshold

CHECKPOINT_SECONDS = 30.0


def train(
    spec: TrainSpec,
    model: LanguageModel,
    sequences: Sequences,
    *,
    checkpoint_dir: Path,
    out_dir: Path,
    progress: Progress = silent,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Path:
    """Train an SAE on a model's activations over `sequences`, or go on where it stopped.

    `checkpoint_dir` belongs to this run alone and is removed at the end. `out_dir` appears whole
    at the end. `progress` is called after every step and forward; when it raises `Cancelled` the
    checkpoints stay. Returns `out_dir`.

    Raises:
        Invalid: settings that cannot work, too little text, or a run that diverged.
        Conflict: `out_dir` or `checkpoint_dir` holds another run.
    """
    check(spec, model)
    settings = resolve(spec, model)
    provenance = _provenance(spec, settings, model, sequences)
    if not _finished(out_dir, provenance):
        with _own_random_numbers(settings.seed, model.device):
            run = _Run(settings, model, sequences, provenance, checkpoint_dir, progress)
            run.steps(checkpoint_seconds)
            run.finish(out_dir)
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    return out_dir


class _Run:
    """One run in memory, at the step of its last checkpoint when it is made."""

    def __init__(
        self,
        settings: Settings,
        model: LanguageModel,
        sequences: Sequences,
        provenance: dict[str, Any],
        checkpoint_dir: Path,
        progress: Progress,
    ) -> None:
        self._settings, self._model, self._sequences = settings, model, sequences
        self._provenance, self._checkpoints = provenance, checkpoint_dir
        self._progress = progress
        self._trainer: SAETrainer = build(settings, model.id, model.device)
        self._curve: Curve = restore(checkpoint_dir, self._trainer, provenance)
        self._activations = Activations(model, sequences, settings)
        self._metrics: dict[str, float] = {}
        self._started, self._from = time.monotonic(), self._trainer.n_training_samples

    def steps(self, checkpoint_seconds: float) -> None:
        """Train to the end."""
        saved = time.monotonic()
        with _matmul_precision(self._settings.matmul_precision):
            if self._trainer.activation_scaler.scaling_factor is None:
                set_scale(self._trainer, self._activations.window(0, self._report))
            for batch in self._activations.batches(self._trainer.n_training_steps, self._report):
                self._step(batch)
                if time.monotonic() - saved > checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
                self._report()
        self._save()

    def finish(self, out_dir: Path) -> None:
        """Evaluate and write the result."""
        last = self._settings.windows - 1
        set_threshold(self._trainer, lambda: self._activations.window(last, self._report))
        fold(self._trainer)
        export(self._trainer, self._curve, self._provenance, self._evaluate, out_dir)

    def _step(self, batch: torch.Tensor) -> None:
        trainer = self._trainer
        trainer.maybe_reset_sparsity()
        output = trainer.step(batch)
        trainer.n_training_steps += 1
        done = trainer.n_training_steps
        if done % self._settings.log_every == 0 or done == self._settings.steps:
            self._metrics = metrics(trainer, output)
            self._curve.add(trainer.n_training_samples, self._metrics)

    def _save(self) -> None:
        save(self._checkpoints, self._trainer, self._provenance, self._curve)

    def _report(self) -> None:
        done = self._trainer.n_training_samples
        rate = (done - self._from) / max(time.monotonic() - self._started, 1e-9)
        total = float(self._settings.tokens)
        self._progress("train", float(done), total, rate or None, self._metrics or None)

    def _evaluate(self, folder: Path) -> dict[str, Any]:
        dictionary = load_sae("trained", folder, device=self._model.device, model=self._model)
        held_out = self._activations.held_out
        source = "held out of the text that it was trained on"
        found = evaluate(self._model, dictionary, held_out, source, progress=self._progress)
        return found.model_dump()


def _provenance(
    spec: TrainSpec, settings: Settings, model: LanguageModel, sequences: Sequences
) -> dict[str, Any]:
    """All that the result depends on. File names only: paths say nothing elsewhere."""
    corpus = spec.corpus.model_dump()
    if isinstance(spec.corpus, CorpusFile):
        corpus["path"] = Path(spec.corpus.path).name
    return {
        "model": model.id,
        "model_fingerprint": model.fingerprint,
        "corpus": corpus,
        "corpus_fingerprint": corpus_fingerprint(
            sequences, settings.context_size, settings.prepend_bos
        ),
        "settings": asdict(settings),
        "steps": settings.steps,
        "tokens": settings.tokens,
    }


def _finished(out_dir: Path, provenance: dict[str, Any]) -> bool:
    if not out_dir.exists():
        return False
    if provenance_of(out_dir) == provenance:
        return True
    raise Conflict(f"{out_dir.name} is already there and holds something else; choose a new name.")


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators begin at `seed` and are put back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
