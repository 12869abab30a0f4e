"""Decode steps that are recorded once and replayed: a GPU takes less time for a step of a small
model than Python takes to ask for it.

A recording holds for a number of rows and a span of positions, each rounded up to one of a few
sizes, and for a plan of steering. All that changes from step to step lies in buffers of fixed
address, which the recording reads: tokens, positions, keys and values, edits. The rows beyond those
in use are computed as well, in slots that nobody has.

What cannot be recorded is computed as it comes, as is everything on devices without recordings.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable

import torch
from jaxtyping import Float

from worker.live.plan import Plan

log = logging.getLogger(__name__)

FIRST_SPAN = 128

Logits = Float[torch.Tensor, "n v"]
Replay = Callable[[], torch.Tensor]
"""Does again what was recorded, with what the buffers hold now; the result has a fixed address."""
Record = Callable[[Callable[[], torch.Tensor]], Replay]
"""Records a computation, which may run several times meanwhile."""


class Recordings:
    """Those of one engine's decode steps under one plan."""

    def __init__(self, record: Record, slots: int, max_len: int, model_id: str) -> None:
        self.rows = _doubling(1, slots)
        """Numbers of rows that are recorded."""
        self._spans = _doubling(min(FIRST_SPAN, max_len), max_len)
        self._record: Record | None = record
        self._model_id = model_id
        self._plan: Plan = {}
        self._made: dict[tuple[int, int], Replay] = {}

    def run(
        self, plan: Plan, n: int, span: int, step: Callable[[int, int], torch.Tensor]
    ) -> Logits | None:
        """What `step` gives for at least `n` rows and `span` positions, cut to `n` rows; None when it
        cannot be recorded. Under another plan than before all is recorded anew."""
        if plan != self._plan:
            self._plan = plan
            self._made.clear()
        size = _at_least(n, self.rows), _at_least(span, self._spans)
        if size not in self._made and not self._make(size, step):
            return None
        return self._made[size]()[:n]

    def _make(self, size: tuple[int, int], step: Callable[[int, int], torch.Tensor]) -> bool:
        if self._record is None:
            return False
        try:
            self._made[size] = self._record(lambda: step(*size))
        except Exception as error:  # noqa: BLE001  whatever a model does that a device cannot record
            log.warning(
                "Decode steps of %s cannot be recorded (%s: %s); they run one operation at a time.",
                self._model_id, type(error).__name__, str(error).partition("\n")[0],
            )  # fmt: skip
            self._record = None
            self._made.clear()
        return self._record is not None


def recorder(device: torch.device) -> Record | None:
    """The recorder of a device: CUDA graphs; None where there is none."""
    return _CudaRecorder(device) if device.type == "cuda" else None


class _CudaRecorder:
    """Records CUDA graphs, which share their memory: one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Replay:
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            # Libraries choose their kernels and take their workspace in the first runs.
            for _ in range(2):
                compute()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on to use the device meanwhile: requests are compiled beside.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = compute()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


def _doubling(first: int, last: int) -> list[int]:
    """first, 2 first, 4 first, ... below `last`, then `last`."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]


def _at_least(size: int, sizes: list[int]) -> int:
    return sizes[bisect_left(sizes, size)]
