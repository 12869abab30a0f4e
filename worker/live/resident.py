"""What is in memory, and what a request holds of it."""

from dataclasses import dataclass, field

from app.store.records import Vocabulary
from worker.live.backend import Engine
from worker.live.capture import CaptureQueue
from worker.models import LanguageModel
from worker.saes import Dictionary


@dataclass(eq=False)
class Loaded:
    """A dictionary in memory."""

    fingerprint: str
    dictionary: Dictionary
    n_bytes: int
    used: int = 0
    """When a request last took it; compares with the others."""


@dataclass(eq=False)
class Resident:
    """A model in memory with everything that serves it."""

    fingerprint: str
    model: LanguageModel
    vocabulary: Vocabulary
    exact_mid: frozenset[str]
    """The resid_mid hook points that can be steered."""
    order: dict[str, int]
    """Hook points by their place in a forward."""
    captures: CaptureQueue
    engine: Engine | None = None
    """Made at the first generation."""
    n_bytes: int = 0
    """Weights, and keys and values of the engine."""
    used: int = 0
    dictionaries: dict[str, Loaded] = field(default_factory=dict)
    """By SAE id."""


@dataclass(frozen=True, eq=False)
class Held:
    """What a request needs, in memory."""

    resident: Resident
    dictionaries: dict[str, Dictionary]

    @property
    def engine(self) -> Engine:
        """The engine; only for a request that asked for it."""
        assert self.resident.engine is not None
        return self.resident.engine
