"""The edits of all rows at one site that are applied together, and what they read."""

from collections import defaultdict
from typing import NamedTuple

import torch

from worker.live.reader import Need, Reader
from worker.live.steering import Edit
from worker.saes import Dictionary


class Use(NamedTuple):
    """What is needed to apply a rank in a phase."""

    acts: bool
    """Whether any row acts."""
    dots: bool
    """Whether any needs h·d,"""
    reads: bool
    """an activation,"""
    gates: bool
    """another feature's activation,"""
    skips: bool
    """or which tokens are special."""

    @property
    def only_adds(self) -> bool:
        """Whether what is added to a row is the same at every token."""
        return not (self.dots or self.reads or self.gates or self.skips)


class Rank:
    """The k-th edit of every row at one site."""

    def __init__(self, slots: int, width: int, device: torch.device) -> None:
        self.direction = torch.zeros(slots, width, device=device)
        self.terms = torch.zeros(2, 5, slots, 1, device=device)
        """By phase, in the order of `Terms.values`."""
        self.shift = torch.zeros(2, slots, 1, width, device=device)
        """By phase, what is added to a row whatever its state: push d."""
        self.skips = torch.zeros(slots, 1, dtype=torch.bool, device=device)
        """Rows that leave special tokens alone."""
        self.edits: list[Edit | None] = [None] * slots
        self._uses: dict[int, Use] = {}
        self._readers: dict[tuple[int, int, int], list[Reader]] = {}

    def put(self, row: int, edit: Edit | None) -> None:
        """Set or clear a row's edit."""
        self.edits[row] = edit
        self._uses.clear()
        self._readers.clear()
        if edit is None:
            for buffer in (self.direction[row], self.terms[:, :, row], self.shift[:, row]):
                buffer.zero_()
            self.skips[row] = False
            return
        self.direction[row] = edit.direction
        self.skips[row] = edit.skips_special
        values = [[value * acts for value in edit.terms.values] for acts in edit.phases]
        terms = torch.tensor(values).to(self.terms.device)
        self.terms[:, :, row, 0] = terms
        self.shift[:, row, 0] = terms[:, :1] * edit.direction

    def uses(self, phase: int) -> Use:
        """What is needed in a phase."""
        if phase not in self._uses:
            acting = [edit for edit in self.edits if edit and edit.phases[phase]]
            self._uses[phase] = Use(
                acts=bool(acting),
                dots=any(edit.terms.turn or edit.terms.cut for edit in acting),
                reads=any(edit.terms.read for edit in acting),
                gates=any(edit.gate for edit in acting),
                skips=any(edit.skips_special for edit in acting),
            )
        return self._uses[phase]

    def readers(self, rows: slice, phase: int) -> list[Reader]:
        """Who of `rows` reads the feature that it steers in this phase; kept until an edit
        changes."""
        key = (rows.start, rows.stop, phase)
        if key not in self._readers:
            needs: dict[Dictionary, list[Need]] = defaultdict(list)
            for row, edit in enumerate(self.edits[rows]):
                if edit and edit.phases[phase] and edit.dictionary and edit.terms.read:
                    needs[edit.dictionary].append(Need(row, edit.feature))
            device = self.direction.device
            self._readers[key] = [Reader(one, of, device) for one, of in needs.items()]
        return self._readers[key]


class Gates:
    """Conditions of all rows at one site, in all of its ranks."""

    def __init__(self, ranks: list[Rank], device: torch.device) -> None:
        self._ranks, self._device = ranks, device
        self._readers: dict[tuple[int, int, int], list[Reader]] = {}

    def clear(self) -> None:
        """Forget what was kept, when an edit has changed."""
        self._readers.clear()

    def readers(self, rows: slice, phase: int) -> list[Reader]:
        """Who of `rows` acts in this phase only while a feature is active enough; kept until an edit
        changes."""
        key = (rows.start, rows.stop, phase)
        if key not in self._readers:
            needs: dict[Dictionary, list[Need]] = defaultdict(list)
            for place, rank in enumerate(self._ranks):
                for row, edit in enumerate(rank.edits[rows]):
                    if edit and edit.phases[phase] and (gate := edit.gate):
                        needs[gate.dictionary].append(Need(row, gate.feature, place, gate.above))
            self._readers[key] = [Reader(one, of, self._device) for one, of in needs.items()]
        return self._readers[key]
