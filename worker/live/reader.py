"""Reading, at every token of a forward, the activations that edits need: of the features that they
steer, or on which they depend."""

from typing import NamedTuple

import torch
from jaxtyping import Float

from worker.saes import Dictionary


class Need(NamedTuple):
    """A row that needs the activation of a feature for its edit of some rank; for a condition, above
    what."""

    row: int
    feature: int
    rank: int = 0
    above: float = 0.0


class Reader:
    """Rows of one forward that read activations of one dictionary, which encodes each row once,
    however many of its edits need it.

    Its indices lie on the device: making them anew in every step would wait for the device.
    """

    def __init__(self, dictionary: Dictionary, needs: list[Need], device: torch.device) -> None:
        """Rows are counted from the first of the forward."""
        self.dictionary, self.members = dictionary, sorted({need.row for need in needs})
        features = sorted({need.feature for need in needs})

        def index(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, device=device)

        self.rows = index([need.row for need in needs])
        self.ranks = index([need.rank for need in needs])
        self.above = torch.tensor([need.above for need in needs], device=device)[:, None]
        self._read, self._features = index(self.members), index(features)
        self._own = index([self.members.index(need.row) for need in needs])
        self._column = index([features.index(need.feature) for need in needs])

    def read(self, x: Float[torch.Tensor, "n t w"]) -> Float[torch.Tensor, "m t"]:
        """The activation of each need, from the states of all rows."""
        x = x[self._read]
        columns = self.dictionary.encode_columns(x.flatten(0, 1).float(), self._features)
        return columns.view(*x.shape[:2], -1)[self._own, :, self._column]
