"""What the two phases of a call of `precompute` share: what it was given, and what follows from that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.materials import Opened
from worker.models import LanguageModel, kind_of
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.report import Report
from worker.precompute.settings import ARITHMETIC, Settings
from worker.precompute.spill import Spill
from worker.progress import Progress, silent
from worker.saes import Dictionary
from worker.tokens import Sequences


@dataclass(frozen=True)
class Recipe:
    """What makes a `Work` of opened materials, in any process."""

    folder: Path
    """Holds the spills."""
    settings: Settings
    kind: str
    """Of the devices that do the work."""

    def work(self, opened: Opened) -> "Work":
        """The same there as here."""
        return Work(*opened, self.folder, self.settings, kind=self.kind)


class Work:
    """One call of `precompute`."""

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Sequence[Dictionary],
        sequences: Sequences,
        folder: Path,
        settings: Settings,
        progress: Progress = silent,
        kind: str = "",
    ) -> None:
        """`folder` holds the spills; `kind` is that of the devices that do the work, if it is not
        the model's."""
        self.model, self.dictionaries, self.sequences = model, dictionaries, sequences
        self.folder, self.settings, self.progress = folder, settings, progress
        self.recipe = Recipe(folder, settings, kind or kind_of(model.device))
        self.bits = position_bits(model.context_size)
        self.shards = plan_shards(sequences.offsets, settings.shard_tokens, self.bits)
        identity = self._identity()
        self.spills = {one.id: Spill(folder, one, identity, sequences) for one in dictionaries}
        self.report = Report()

    def _identity(self) -> dict[str, object]:
        """What the spilled entries depend on, besides dictionary and tokens."""
        return {
            "model": self.model.fingerprint,
            "number format": f"{self.model.dtype} on {self.recipe.kind}",
            "position bits": self.bits,
            "batch tokens": self.settings.batch_tokens,
            "arithmetic": ARITHMETIC,
        }
