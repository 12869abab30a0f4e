"""What a run is made with. Recorded with it: the same settings give the same evidence."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

ARITHMETIC = f"1, torch {torch.__version__}"
"""What computes entries and evidence. The number goes up when a change to either changes results."""
TOP = 20
"""Examples of the strongest sequences."""
QUANTILES = 5
"""Rank bands."""
PER_QUANTILE = 5
"""Examples in a rank band."""
WINDOW = 32
"""Tokens of an example."""
BEFORE = 20
"""Tokens of an example before its peak, unless the sequence begins or ends nearby."""
BINS = 32
"""Histogram bins."""
LOGITS = 10
"""Tokens promoted and tokens suppressed."""
LOGIT_BINS = 32
"""Bins of the histogram of a feature's logits."""
NEIGHBORS = 10
"""Nearest features."""
NEURONS = 5
"""Most aligned neurons."""
COACTIVE = 10
"""Features most often active together with one."""
COACTIVE_TOKENS = 2**16
"""Tokens on which that is counted, or as many fewer as keep ..."""
COACTIVE_PAIRS = 2**27
"""... the pairs of active features of an average token, times the tokens, below this."""
HELD_OUT = 10
"""One in so many sequences is held out: labels are made without them and scored on them."""
LABEL_TELLS = 0.6
"""Balanced accuracy from which a part of a label counts."""

SEGMENT = 2**18
"""Entries of a segment in a run of many dictionaries: fewer would be small beside their index."""
_CUDA_BATCH_TOKENS = 2**15

_EVIDENCE = {
    "top": TOP, "quantiles": QUANTILES, "per_quantile": PER_QUANTILE, "window": WINDOW,
    "before": BEFORE, "bins": BINS, "logits": LOGITS, "logit_bins": LOGIT_BINS, "neighbors": NEIGHBORS, "neurons": NEURONS,
    "coactive": COACTIVE, "coactive_tokens": COACTIVE_TOKENS, "coactive_pairs": COACTIVE_PAIRS,
    "held_out": HELD_OUT, "label_tells": LABEL_TELLS, "arithmetic": ARITHMETIC,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a run is cut into pieces, and the seed of what it samples."""

    batch_tokens: int = 4_096
    """Ids in a forward, padding counted."""
    shard_tokens: int = 2**18
    """Tokens of a shard: what a killed run does again, at most."""
    segment_entries: int = 2**22
    """Entries that all dictionaries of a run together gather in memory before they are sorted and
    written."""
    range_entries: int = 2**20
    """Entries of a range of features; a range has more only when one feature has."""
    range_features: int = 1_024
    """Features of a range, at most."""
    seed: int = 0
    """Of all that is sampled: rank bands, what is held out of labels, tokens of co-activity."""

    @classmethod
    def on(cls, device: torch.device) -> "Settings":
        """Those that suit a device."""
        return cls(batch_tokens=_CUDA_BATCH_TOKENS) if device.type == "cuda" else cls()

    def segment_limit(self, dictionaries: int) -> int:
        """Entries of a segment of one of so many dictionaries."""
        return max(min(self.segment_entries, SEGMENT), self.segment_entries // dictionaries)

    def record(self) -> dict[str, Any]:
        """Everything that decides the evidence, for the run's record."""
        return {**asdict(self), **_EVIDENCE}
