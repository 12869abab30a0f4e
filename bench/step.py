"""The training step alone: SAELens', the same in bfloat16 and compiled, and a plain PyTorch step.

Every kind takes the same steps from the same weights over the same batches, the first half untimed (in
it a kind is compiled), the other half timed. Ratios are to SAELens' step in float32; beside them stands
the explained variance of the last batch, which tells what a kind does to the result.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from sae_lens.saes.sae import TrainStepOutput
from sae_lens.training.sae_trainer import SAETrainer
from torch import nn
from torch.nn.functional import normalize

from bench.timing import Run, in_turns
from worker.models import LanguageModel
from worker.train.settings import Settings
from worker.train.trainer import build, metrics, set_scale

KINDS = {
    "SAETrainer.step": (False, False),
    "in bfloat16": (True, False),
    "compiled": (False, True),
    "compiled, in bfloat16": (True, True),
}
"""Whether it multiplies in bfloat16, and whether it is compiled."""


class Steps:
    """SAELens' step, on batches in memory."""

    def __init__(
        self, settings: Settings, model: LanguageModel, sample: torch.Tensor, compiled: bool = False
    ) -> None:
        torch.manual_seed(settings.seed)
        self._trainer: SAETrainer = build(settings, model.id, model.device)
        set_scale(self._trainer, sample)
        self._last: TrainStepOutput | None = None
        if compiled:
            logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
            sae: Any = self._trainer.sae
            sae.training_forward_pass = torch.compile(sae.training_forward_pass)

    def run(self, batches: Sequence[torch.Tensor]) -> None:
        """A step on each."""
        for batch in batches:
            self._last = self._trainer.step(batch)
            self._trainer.n_training_steps += 1

    def explained_variance(self) -> float:
        """Of the last batch."""
        assert self._last is not None
        return metrics(self._trainer, self._last)["explained_variance"]


class PlainSteps(nn.Module):
    """An SAE as one would write it down in PyTorch, (x - b) W + c, ReLU or top k, and back; the loss is
    the squared error and an L1 norm, the optimizer Adam."""

    def __init__(self, settings: Settings, sample: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        rows = normalize(torch.randn(settings.d_sae, settings.d_in), dim=1) / 10
        self.encoder, self.decoder = nn.Parameter(rows.T.contiguous()), nn.Parameter(rows.clone())
        self.c = nn.Parameter(torch.zeros(settings.d_sae))
        self.b = nn.Parameter(torch.zeros(settings.d_in))
        self.to(sample.device)
        self._k = settings.sparsity.get("k")
        self._l1 = settings.sparsity.get("l1_coefficient", 0.0)
        self._scale = settings.d_in**0.5 / float(sample.norm(dim=1).mean())
        self._optimizer = torch.optim.Adam(self.parameters(), lr=settings.lr)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstruction and the activations."""
        before = (x - self.b) @ self.encoder + self.c
        active = before.relu()
        if self._k is not None:
            values, features = active.topk(self._k)
            active = torch.zeros_like(before).scatter(-1, features, values)
        return active @ self.decoder + self.b, active

    def run(self, batches: Sequence[torch.Tensor]) -> None:
        """A step on each."""
        for batch in batches:
            x = batch * self._scale
            again, active = self(x)
            error = (again - x).square().sum(-1).mean()
            (error + self._l1 * active.sum(-1).mean()).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()


def compare_steps(
    name: str, settings: Settings, model: LanguageModel, kept: Sequence[torch.Tensor], turns: int
) -> None:
    """Print what the kinds of steps take on batches in memory, and where they end."""
    first, second = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    ends: dict[str, Steps] = {}

    def prepare(kind: str) -> Run:
        autocast, compiled = KINDS[kind]
        steps = Steps(replace(settings, autocast=autocast), model, kept[0], compiled)
        steps.run(first)
        ends[kind] = steps
        return lambda: steps.run(second)

    def prepare_plain() -> Run:
        plain = PlainSteps(settings, kept[0])
        plain.run(first)
        return lambda: plain.run(second)

    work: dict[str, Callable[[], Run]] = {kind: partial(prepare, kind) for kind in KINDS}
    taken = in_turns(turns, work | {"plain PyTorch": prepare_plain})
    one = taken["SAETrainer.step"].seconds
    size = f"{name}, {settings.d_sae:,} features, batches of {settings.batch_tokens:,}"
    table = Table("step", "ms", "ratio", "explained variance", title=size)
    for kind, (seconds, _) in taken.items():
        end = f"{ends[kind].explained_variance():.4f}" if kind in ends else ""
        table.add_row(kind, f"{1e3 * seconds / len(second):.1f}", f"{seconds / one:.2f}", end)
    Console().print(table)
