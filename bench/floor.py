"""The work that no precompute can do without, timed beside a run: per batch, the truncated forward
and a plain PyTorch encode (matmul and ReLU, or matmul and topk) of every SAE.
"""

import time
from collections.abc import Iterator

import torch
from sae_lens import SAE

from bench.models import HOOK
from bench.shape import ACTIVE
from worker.activations import capture
from worker.models import LanguageModel
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.settings import Settings
from worker.tokens import Batch, Sequences, batches

BLOCK = 2**24
"""Pre-activations of an encode that are in memory at a time."""


class Floor:
    """The floor of a run's own batches, each right after the run has done it, so that both see the
    same machine; `paused` is how long the run stood still for that. It is the run's progress."""

    def __init__(
        self, model: LanguageModel, saes: list[SAE], sequences: Sequences, settings: Settings
    ) -> None:
        self._model, self._saes = model, saes
        self._left = _batches(model, sequences, settings)
        self._buffer = torch.empty(BLOCK)
        self.forward = self.encode = self.paused = 0.0

    @property
    def seconds(self) -> float:
        """All of the floor."""
        return self.forward + self.encode

    def __call__(
        self,
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Take the next batch."""
        started = time.perf_counter()
        if phase == "tokens" and done and (batch := next(self._left, None)):
            self._batch(batch)
        self.paused += time.perf_counter() - started

    @torch.inference_mode()
    def _batch(self, batch: Batch) -> None:
        started = time.perf_counter()
        x = capture(self._model, batch.ids, [HOOK])[HOOK][:, 1:].flatten(0, 1)
        encoding = time.perf_counter()
        for sae in self._saes:
            self._encode(sae, x)
        self.forward += encoding - started
        self.encode += time.perf_counter() - encoding

    def _encode(self, sae: SAE, x: torch.Tensor) -> None:
        width, bias = sae.cfg.d_sae, sae.get_parameter("b_enc")
        for block in x.split(BLOCK // width):
            out = self._buffer[: len(block) * width].view(len(block), width)
            pre = torch.addmm(bias, block, sae.W_enc, out=out)
            pre.relu_() if sae.cfg.architecture() == "standard" else pre.topk(ACTIVE, dim=1)


def _batches(model: LanguageModel, sequences: Sequences, settings: Settings) -> Iterator[Batch]:
    """The batches of a run, in its order."""
    bits = position_bits(model.context_size)
    for shard in plan_shards(sequences.offsets, settings.shard_tokens, bits):
        yield from batches(sequences, settings.batch_tokens, shard.first, shard.stop)
