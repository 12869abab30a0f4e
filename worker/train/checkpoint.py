"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint is a folder `step-000000123`: the files that SAELens itself writes (weights, Adam's
moments, schedules, dead-feature counters, activation scaler), the states of the random generators,
`run.json` (what is being trained, and the metric curve so far) and `digests.json` (sha256 of all
the others). The data needs no saving, see `order.py`. Nothing is ever unpickled but plain tensors
and numbers (`weights_only`).
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file

from app.errors import Conflict
from worker.durable import write_folder

KEPT = 2
DIGESTS = "digests.json"

log = logging.getLogger(__name__)


@dataclass
class Curve:
    """Metrics over the run, one entry a point."""

    tokens: list[int] = field(default_factory=list)
    """Tokens trained on at each point."""
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def add(self, tokens: int, metrics: dict[str, float]) -> None:
        """Append a point."""
        self.tokens.append(tokens)
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value)


def save(folder: Path, trainer: SAETrainer, recipe: dict[str, Any], curve: Curve) -> None:
    """Write a checkpoint of `trainer` into `folder` and drop all but the last two."""

    def fill(partial: Path) -> None:
        trainer.sae.save_model(partial)
        trainer.save_trainer_state(partial)
        save_file(_random_states(trainer.sae.device), partial / "rng.safetensors")
        run = {"recipe": recipe, "curve": {"tokens": curve.tokens, "metrics": curve.metrics}}
        (partial / "run.json").write_text(json.dumps(run))
        (partial / DIGESTS).write_text(json.dumps(_digests(partial)))

    final = folder / f"step-{trainer.n_training_steps:09d}"
    shutil.rmtree(final, ignore_errors=True)
    write_folder(final, fill)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def restore(folder: Path, trainer: SAETrainer, recipe: dict[str, Any]) -> Curve:
    """Put the newest undamaged checkpoint into `trainer`; without one leave it as it is.

    Throws away what a kill left half-written. Returns the metric curve so far.

    Raises:
        Conflict: the checkpoint is of another run (other settings, model or corpus).
    """
    for left in folder.glob(".step-*"):
        shutil.rmtree(left)
    for path in _undamaged(folder):
        run = json.loads((path / "run.json").read_text())
        if run["recipe"] != recipe:
            raise Conflict(
                "The checkpoint folder holds a run with other settings, model or corpus; "
                "give every run a folder of its own."
            )
        trainer.sae.load_weights_from_checkpoint(path)
        trainer.load_trainer_state(path)
        # On a GPU Adam would wait for the device to read its step, which is made on the CPU.
        for state in trainer.optimizer.state.values():
            state["step"] = state["step"].cpu()
        _set_random_states(load_file(path / "rng.safetensors"), trainer.sae.device)
        return Curve(**run["curve"])
    return Curve()


def _undamaged(folder: Path) -> Iterator[Path]:
    """Checkpoints whose files are what was written, newest first."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            intact = _digests(path) == json.loads((path / DIGESTS).read_text())
        except (OSError, ValueError):
            intact = False
        if intact:
            yield path
        else:
            log.warning("checkpoint %s is damaged; going back to the one before", path.name)


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != DIGESTS:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
