"""An example as it is stored, and what it says of its sequence:

in its window     the value there; special tokens count as nothing, so 0
everywhere        no more than the value at its peak, the maximum of the sequence
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from app.errors import Conflict


@dataclass(frozen=True, eq=False)
class StoredExample:
    """A window of a feature."""

    feature: int
    largest: float
    """The strongest value in any stored example of the feature."""
    sequence: int
    offset: int
    """Position of the window's first token."""
    peak: int
    """Position of the sequence's maximum, counted from `offset`."""
    values: Float[np.ndarray, " window"]
    maximum: float | None = None
    """What is stored as the feature's largest activation, where that is to be checked as well."""

    @property
    def overstated(self) -> float:
        """How far the feature's stored maximum is from its strongest example."""
        return 0.0 if self.maximum is None else abs(self.maximum - self.largest)

    def gaps(
        self, at: Int[np.ndarray, " n"], computed: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """How far values computed at some positions are from what it says of them; infinite where
        that is no number."""
        within = at - self.offset
        inside = (within >= 0) & (within < len(self.values))
        stored = self.values.astype(np.float64)
        own = np.abs(computed - stored[within.clip(0, len(stored) - 1)])
        above = (computed - stored[self.peak]).clip(min=0)
        return np.nan_to_num(np.maximum(np.where(inside, own, 0), above), nan=np.inf)

    def stored(self, at: int, computed: float) -> float:
        """The number that a gap is counted from: the value there, or the peak's."""
        peak, within = float(self.values[self.peak]), at - self.offset
        if not 0 <= within < len(self.values):
            return peak
        own = float(self.values[within])
        return peak if computed - peak > abs(computed - own) else own

    def check(self, n_tokens: int) -> None:
        """Raises Conflict when it does not lie in a sequence of so many tokens."""
        n = len(self.values)
        if not (0 <= self.peak < n and 0 <= self.offset <= n_tokens - n):
            raise self.misplaced()

    def misplaced(self) -> Conflict:
        """What is said of a window that its corpus does not have."""
        return Conflict(
            f"An example of feature {self.feature} lies outside of its corpus (sequence "
            f"{self.sequence}), so the stored evidence is damaged; precompute again."
        )
