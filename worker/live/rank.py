"""The edits of all rows at one site that are applied together, and what they read."""

from collections import defaultdict

import torch
from jaxtyping import Float

from worker.live.steering import Edit
from worker.saes import Dictionary


class Reader:
    """Rows of one forward that read the activations of one dictionary, each of its own feature.

    Its indices lie on the device: making them anew in every step would wait for the device.
    """

    def __init__(self, dictionary: Dictionary, members: list[int], edits: list[Edit]) -> None:
        """`members` are the rows of `edits`, counted from the first of the forward."""
        self.dictionary, self.members = dictionary, members
        device = edits[0].direction.device
        features = sorted({edit.feature for edit in edits})
        own = [features.index(edit.feature) for edit in edits]
        self.rows = torch.tensor(members, device=device)
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
        self.edits: list[Edit | None] = [None] * slots
        self._uses: dict[int, tuple[bool, bool, bool]] = {}
        self._readers: dict[tuple[int, int, int], list[Reader]] = {}

    def put(self, row: int, edit: Edit | None) -> None:
        """Set or clear a row's edit."""
        self.edits[row] = edit
        self._uses.clear()
        self._readers.clear()
        if edit is None:
            self.direction[row] = 0
            self.terms[:, :, row] = 0
            return
        self.direction[row] = edit.direction
        values = torch.tensor(edit.terms.values)
        for phase, acts in enumerate(edit.phases):
            self.terms[phase, :, row, 0] = values.to(self.terms.device) * acts

    def uses(self, phase: int) -> tuple[bool, bool, bool]:
        """Whether in this phase any row acts, needs h·d, needs an activation."""
        if phase not in self._uses:
            acting = [edit for edit in self.edits if edit and edit.phases[phase]]
            dots = any(edit.terms.turn or edit.terms.cut for edit in acting)
            reads = any(edit.dictionary for edit in acting)
            self._uses[phase] = (bool(acting), dots, reads)
        return self._uses[phase]

    def readers(self, rows: slice, phase: int) -> list[Reader]:
        """Who of `rows` reads in this phase; kept until an edit changes."""
        key = (rows.start, rows.stop, phase)
        if key not in self._readers:
            members: dict[Dictionary, list[tuple[int, Edit]]] = defaultdict(list)
            for i, edit in enumerate(self.edits[rows]):
                if edit and edit.dictionary and edit.phases[phase]:
                    members[edit.dictionary].append((i, edit))
            self._readers[key] = [
                Reader(dictionary, [i for i, _ in own], [edit for _, edit in own])
                for dictionary, own in members.items()
            ]
        return self._readers[key]
