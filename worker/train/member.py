"""One of the SAEs that a run trains: its trainer, and all else that is its own.

An SAE ends in the same bytes whether it is trained alone or beside others. So each has torch's
global random generators to itself while it is built and stepped, as it left them the last time.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file

from worker.train.loss_score import LossScore
from worker.train.settings import Settings
from worker.train.trainer import build, diverged, metrics, reconstruct

RECOVERED = "ce_loss_score"


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


class Member:
    """An SAE in training, at step 0 when it is made."""

    trainer: SAETrainer
    curve: Curve
    metrics: dict[str, float]
    """Of the last step that was measured."""

    def __init__(
        self,
        sae_id: str,
        settings: Settings,
        provenance: dict[str, Any],
        model_id: str,
        device: torch.device,
    ) -> None:
        self.sae_id, self.settings, self.provenance = sae_id, settings, provenance
        self.curve, self.metrics = Curve(), {}
        torch.manual_seed(settings.seed)
        self.trainer = build(settings, model_id, device)
        self._random = _random_states(device)

    @property
    def done(self) -> int:
        """Steps that were taken."""
        return self.trainer.n_training_steps

    def step(self, batch: torch.Tensor, loss_score: LossScore) -> None:
        """Learn from activations [batch, d_in] at its hook point, and measure now and then.

        Raises:
            Invalid: the loss or what the SAE reconstructs is no longer finite.
        """
        trainer = self.trainer
        with self._own_random_numbers():
            trainer.maybe_reset_sparsity()
            output = trainer.step(batch)
        trainer.n_training_steps += 1
        if self.done % self.settings.log_every == 0 or self.done == self.settings.steps:
            self.metrics = metrics(trainer, output) | self._recovered(loss_score)
            self.curve.add(trainer.n_training_samples, self.metrics)

    def _recovered(self, loss_score: LossScore) -> dict[str, float]:
        """The share of the loss, as it was measured last: it costs a forward of the model."""
        point, before = len(self.curve.tokens), self.curve.metrics.get(RECOVERED)
        last = self.done == self.settings.steps
        if last or point % loss_score.points_between(self.settings) == 0:
            score = loss_score(partial(reconstruct, self.trainer))
            if score is None:
                return {}
            if not math.isfinite(score):
                raise diverged(self.trainer, "the reconstruction is")
            return {RECOVERED: score}
        return {RECOVERED: before[-1]} if before else {}

    def save(self, folder: Path) -> None:
        """Write all that goes on into a new folder."""
        self.trainer.sae.save_model(folder)
        self.trainer.save_trainer_state(folder)
        save_file(self._random, folder / "rng.safetensors")
        (folder / "curve.json").write_text(json.dumps(asdict(self.curve)))

    def load(self, folder: Path) -> None:
        """Go back to what `save` wrote."""
        self.trainer.sae.load_weights_from_checkpoint(folder)
        self.trainer.load_trainer_state(folder)
        # On a GPU Adam would wait for the device to read its step, which is made on the CPU.
        for state in self.trainer.optimizer.state.values():
            state["step"] = state["step"].cpu()
        self._random = load_file(folder / "rng.safetensors")
        self.curve = Curve(**json.loads((folder / "curve.json").read_text()))

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        device = self.trainer.sae.device
        torch.set_rng_state(self._random["cpu"])
        if "cuda" in self._random:
            torch.cuda.set_rng_state(self._random["cuda"], device)
        yield
        self._random = _random_states(device)


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
