"""A training run from specification to SAE folders.

1. Refuse what cannot work; work out the settings of each SAE.
2. Build a trainer for each; put the last checkpoint into them, or estimate the activation scales.
3. Step all of them over one stream of activations; report, keep metrics, write a checkpoint now and
   then.
4. For each set a threshold where one is needed, fold the scales into the weights, evaluate on
   held-out text, write the folder.

Killed anywhere and called again with the same arguments, it ends in the same bytes (on CPU with
the same number of threads). An SAE that is trained beside others ends in the same bytes as alone,
when the windows are of the same size.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app.contract.jobs import HUB, CorpusFile, TrainSpec
from app.errors import Conflict
from worker.evaluate import evaluate
from worker.models import LanguageModel
from worker.progress import Progress, silent
from worker.saes import load_sae
from worker.tokens import Sequences, corpus_fingerprint
from worker.train.check import check
from worker.train.checkpoint import restore, save
from worker.train.export import export, provenance_of
from worker.train.loss_score import LossScore
from worker.train.member import Member
from worker.train.settings import Settings, resolve_each
from worker.train.several import each, naming
from worker.train.stream import Activations
from worker.train.trainer import fold, set_scale, set_threshold

CHECKPOINT_SECONDS = 30.0
HELD_OUT = "held out of the text that it was trained on"
"""On what a trained SAE is measured."""


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
    """Train the only SAE of a specification, as `train_all`; returns `out_dir`."""
    train_all(
        spec,
        model,
        sequences,
        checkpoint_dir=checkpoint_dir,
        out_dirs=[out_dir],
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
    )
    return out_dir


def train_all(
    spec: TrainSpec,
    model: LanguageModel,
    sequences: Sequences,
    *,
    checkpoint_dir: Path,
    out_dirs: Sequence[Path],
    progress: Progress = silent,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train SAEs on a model's activations over `sequences`, or go on where it stopped.

    `checkpoint_dir` belongs to this run alone and is removed at the end. Each of `out_dirs`, one for
    each SAE of `spec` in its order, appears whole at the end. `progress` is called after every step
    and forward; when it raises `Cancelled` the checkpoints stay.

    Raises:
        Invalid: settings that cannot work, too little text, or a run that diverged.
        Conflict: one of `out_dirs` or `checkpoint_dir` holds another run.
    """
    check(spec, model)
    specs = each(spec)
    settings = resolve_each(specs, model)
    provenances = _provenances(spec, settings, model, sequences)
    finished = [_finished(*pair) for pair in zip(out_dirs, provenances, strict=True)]
    if not all(finished):
        # torch's global generators are afterwards as they were before.
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            members = [
                Member(one.sae, its, provenance, model.id, model.device)
                for one, its, provenance in zip(specs, settings, provenances, strict=True)
            ]
            run = _Run(members, model, sequences, checkpoint_dir, progress)
            run.steps(checkpoint_seconds)
            run.finish(out_dirs)
    shutil.rmtree(checkpoint_dir, ignore_errors=True)


class _Run:
    """One run in memory, at the step of its last checkpoint when it is made."""

    def __init__(
        self,
        members: Sequence[Member],
        model: LanguageModel,
        sequences: Sequences,
        checkpoint_dir: Path,
        progress: Progress,
    ) -> None:
        restore(checkpoint_dir, members)
        self._members, self._model, self._checkpoints = members, model, checkpoint_dir
        self._settings = members[0].settings
        self._activations = Activations(model, sequences, [one.settings for one in members])
        self._scores = {
            hook: LossScore(model, hook, self._activations.held_out)
            for hook in {one.settings.hook_name for one in members}
        }
        self._progress = progress
        self._started, self._from = time.monotonic(), self._done

    def steps(self, checkpoint_seconds: float) -> None:
        """Train to the end."""
        saved = time.monotonic()
        with _matmul_precision(self._settings.matmul_precision):
            self._set_scales()
            for batch in self._activations.batches(self._members[0].done, self._report):
                for member in self._members:
                    with self._naming(member):
                        hook = member.settings.hook_name
                        member.step(batch[hook], self._scores[hook])
                self._report()  # first: whose job was taken over stops here, and saves nothing more
                if time.monotonic() - saved > checkpoint_seconds:
                    save(self._checkpoints, self._members)
                    saved = time.monotonic()
        save(self._checkpoints, self._members)

    def finish(self, out_dirs: Sequence[Path]) -> None:
        """Evaluate and write what is not yet written."""
        for number, (member, out_dir) in enumerate(zip(self._members, out_dirs, strict=True)):
            if not out_dir.exists():
                with self._naming(member), _matmul_precision(self._settings.matmul_precision):
                    self._finish(member, number, out_dir)

    def _finish(self, member: Member, number: int, out_dir: Path) -> None:
        last, hook = self._settings.windows - 1, member.settings.hook_name
        set_threshold(member.trainer, lambda: self._activations.window(last, self._report)[hook])
        fold(member.trainer)

        def measure(folder: Path) -> dict[str, Any]:
            dictionary = load_sae("trained", folder, device=self._model.device, model=self._model)
            progress = _part(self._progress, number, len(self._members))
            held_out = self._activations.held_out
            found = evaluate(self._model, dictionary, held_out, HELD_OUT, progress=progress)
            return found.model_dump()

        export(member.trainer, member.curve, member.provenance, measure, out_dir)

    def _set_scales(self) -> None:
        for member in self._members:
            if member.trainer.activation_scaler.scaling_factor is None:
                window = self._activations.window(0, self._report)
                with self._naming(member):
                    set_scale(member.trainer, window[member.settings.hook_name])

    def _report(self) -> None:
        rate = (self._done - self._from) / max(time.monotonic() - self._started, 1e-9)
        total = float(self._settings.tokens)
        self._progress("train", float(self._done), total, rate or None, self._metrics() or None)

    @property
    def _done(self) -> int:
        """Tokens that all SAEs have learned from."""
        return self._members[-1].trainer.n_training_samples

    def _metrics(self) -> dict[str, float]:
        if len(self._members) == 1:
            return self._members[0].metrics
        return {
            f"{member.sae_id}.{name}": value
            for member in self._members
            for name, value in member.metrics.items()
        }

    def _naming(self, member: Member) -> AbstractContextManager[None]:
        return naming(member.sae_id, len(self._members))


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Reports of one of `count` equal parts as progress of the whole."""

    def report(
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        progress(phase, number * total + done, count * total, rate, metrics)

    return report


def _provenances(
    spec: TrainSpec, settings: Sequence[Settings], model: LanguageModel, sequences: Sequences
) -> list[dict[str, Any]]:
    """All that each SAE depends on. File names only: paths say nothing elsewhere."""
    corpus = spec.corpus.model_dump()
    if isinstance(spec.corpus, CorpusFile) and not spec.corpus.path.startswith(HUB):
        corpus["path"] = Path(spec.corpus.path).name
    first = settings[0]
    tokens = corpus_fingerprint(sequences, first.context_size, first.prepend_bos)
    return [
        {
            "model": model.id,
            "model_fingerprint": model.fingerprint,
            "corpus": corpus,
            "corpus_fingerprint": tokens,
            "settings": asdict(its),
            "steps": its.steps,
            "tokens": its.tokens,
        }
        for its in settings
    ]


def _finished(out_dir: Path, provenance: dict[str, Any]) -> bool:
    if not out_dir.exists():
        return False
    if provenance_of(out_dir) == provenance:
        return True
    raise Conflict(f"{out_dir.name} is already there and holds something else; choose a new name.")


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
