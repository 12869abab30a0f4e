"""The edits of all rows at one site that are applied together, and what they read."""

from collections import defaultdict
from typing import NamedTuple

import torch
from jaxtyping import Float

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


class Need(NamedTuple):
    """A row that needs the activation of a feature; for a gate, above what."""

    row: int
    feature: int
    above: float


class Reader:
    """Rows of one forward that read the activations of one dictionary, each of its own feature.

    Its indices lie on the device: making them anew in every step would wait for the device.
    """

    def __init__(self, dictionary: Dictionary, needs: list[Need], device: torch.device) -> None:
        """Rows are counted from the first of the forward."""
        self.dictionary, self.members = dictionary, [need.row for need in needs]
        features = sorted({need.feature for need in needs})
        own = [features.index(need.feature) for need in needs]
        self.rows = torch.tensor(self.members, device=device)
        self.above = torch.tensor([need.above for need in needs], device=device)[:, None]
        self._features = torch.tensor(features, device=device)
        self._own = torch.tensor(own, device=device)[:, None, None]

    def read(self, x: Float[torch.Tensor, "n t w"]) -> Float[torch.Tensor, "m t"]:
        """Each member's activation of its feature, from the states of all rows."""
        x = x[self.rows]
        columns = self.dictionary.encode_columns(x.flatten(0, 1).float(), self._features)
        columns = columns.view(*x.shape[:2], len(self._features))
        return columns.gather(-1, self._own.expand(-1, x.shape[1], 1))[..., 0]


class Rank:
    """The k-th edit of every row at one site."""

    def __init__(self, slots: int, width: int, device: torch.device) -> None:
        self.direction = torch.zeros(slots, width, device=device)
        self.terms = torch.zeros(2, 5, slots, 1, device=device)
        """By phase, in the order of `Terms.values`."""
        self.skips = torch.zeros(slots, 1, dtype=torch.bool, device=device)
        """Rows that leave special tokens alone."""
        self.edits: list[Edit | None] = [None] * slots
        self._uses: dict[int, Use] = {}
        self._readers: dict[tuple[int, int, int, bool], list[Reader]] = {}

    def put(self, row: int, edit: Edit | None) -> None:
        """Set or clear a row's edit."""
        self.edits[row] = edit
        self._uses.clear()
        self._readers.clear()
        if edit is None:
            self.direction[row] = 0
            self.terms[:, :, row] = 0
            self.skips[row] = False
            return
        self.direction[row] = edit.direction
        self.skips[row] = edit.skips_special
        values = torch.tensor(edit.terms.values)
        for phase, acts in enumerate(edit.phases):
            self.terms[phase, :, row, 0] = values.to(self.terms.device) * acts

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
        return self._kept(rows, phase, gates=False)

    def gates(self, rows: slice, phase: int) -> list[Reader]:
        """Who of `rows` acts in this phase only while a feature is active enough; kept as well."""
        return self._kept(rows, phase, gates=True)

    def _kept(self, rows: slice, phase: int, gates: bool) -> list[Reader]:
        key = (rows.start, rows.stop, phase, gates)
        if key not in self._readers:
            needs: dict[Dictionary, list[Need]] = defaultdict(list)
            for i, edit in enumerate(self.edits[rows]):
                if edit and edit.phases[phase] and (need := _need(i, edit, gates)):
                    needs[need[0]].append(need[1])
            device = self.direction.device
            self._readers[key] = [Reader(one, of, device) for one, of in needs.items()]
        return self._readers[key]


def _need(row: int, edit: Edit, gates: bool) -> tuple[Dictionary, Need] | None:
    if gates:
        gate = edit.gate
        return gate and (gate.dictionary, Need(row, gate.feature, gate.above))
    if edit.dictionary is None or not edit.terms.read:
        return None
    return edit.dictionary, Need(row, edit.feature, 0.0)
