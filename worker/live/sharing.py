"""Rows with the same tokens, run as one up to the block where their steering begins.

A baseline runs beside its steered answer, a sweep is one prompt many times, a receipt is one text
steered and not: below the first block at which a row is steered its states are those of the
others. So a forward begins with one row of each text, the one that is steered deepest or not at
all, and the others split off from it where they begin to differ. Everybody else sees all rows: keys
and values are stored for each, and edits are applied to each.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from worker.live.steering import Edit
from worker.models import LanguageModel
from worker.sites import add_hook

_BOUNDS = ("hook_resid_pre", "hook_resid_post")
NEVER = 1 << 30
"""The depth of a row that is not steered."""


def depth_of(edits: tuple[Edit, ...], phase: int) -> int:
    """Where a row begins to differ from an unsteered one: 2 layer at a block's input or inside, 1 more
    at its output. What steered the prompt counts behind it too: it is in the keys and values."""
    acting = (edit for edit in edits if any(edit.phases[: phase + 1]))
    return min((_depth(edit.hook) for edit in acting), default=NEVER)


def _depth(hook_name: str) -> int:
    return 2 * int(hook_name.split(".")[1]) + hook_name.endswith(".hook_resid_post")


class Sharing:
    """Which rows of the forward under way run, and for whom."""

    def __init__(self, model: LanguageModel) -> None:
        self.allowed = False
        """Whether rows of this model may run as one."""
        self.possible = all(f"blocks.0.{name}" in model.sites for name in _BOUNDS)
        """Whether it has places to split at."""
        self._device = model.device
        self._runs: list[int] = []
        self._for: list[int] = []
        self._split: dict[int, list[int]] = {}
        self.running: torch.Tensor | None = None
        """Rows that run, in their order; None when all do."""
        self.runner: torch.Tensor | None = None
        """For every row the place in `running` of the row that runs for it; None when all run."""
        for layer in range(model.n_layers if self.possible else 0):
            for place, name in enumerate(_BOUNDS):
                site = model.site(f"blocks.{layer}.{name}")
                split = partial(self._split_off, 2 * layer + place)
                # Before steering puts its own hooks there, which then see the rows that are split.
                add_hook(model.hf.get_submodule(site.module), site.side, split)

    @contextmanager
    def during(self, tokens: Sequence[Sequence[int]], depths: list[int]) -> Iterator[list[int]]:
        """Share in the forward inside, whose rows have these tokens and are steered from these
        depths on. Gives the rows that it begins with."""
        same: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, own in enumerate(tokens):
            same[tuple(own) if self.allowed else (row,)].append(row)
        first = {row: max(rows, key=depths.__getitem__) for rows in same.values() for row in rows}
        self._for = [first[row] for row in range(len(depths))]
        for row, runner in first.items():
            if row != runner and depths[row] != NEVER:
                self._split.setdefault(depths[row], []).append(row)
        try:
            self._run(sorted(set(self._for)))
            yield self._runs
        finally:
            self.running = self.runner = None
            self._split.clear()

    def expand(self, state: torch.Tensor) -> torch.Tensor:
        """What was computed for the rows that run, for every row."""
        return state if self.runner is None else state[self.runner]

    def narrow(self, state: torch.Tensor) -> torch.Tensor:
        """Of every row's, that of the rows that run."""
        return state if self.running is None else state[self.running]

    def _split_off(self, depth: int, state: torch.Tensor) -> torch.Tensor | None:
        rows = self._split.pop(depth, None)
        if rows is None:
            return None
        places = {row: place for place, row in enumerate(self._runs)}
        wanted = sorted([*self._runs, *rows])
        chosen = [places[self._for[row]] for row in wanted]
        for row in rows:
            self._for[row] = row
        self._run(wanted)
        return state[self._index(chosen)]

    def _run(self, rows: list[int]) -> None:
        self._runs = rows
        self.running = self.runner = None
        if len(rows) < len(self._for):
            places = {row: place for place, row in enumerate(rows)}
            self.running = self._index(rows)
            self.runner = self._index([places[row] for row in self._for])

    def _index(self, places: list[int]) -> torch.Tensor:
        return torch.tensor(places, dtype=torch.long).to(self._device)
