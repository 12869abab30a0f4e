"""What units of work start from, by where it is kept: another process opens the very same."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from worker.dictionary import Dictionary
from worker.models import LanguageModel, load_model
from worker.saes import load_sae, neuron_dictionary
from worker.tokens import Sequences, load_corpus


class Opened(NamedTuple):
    """In memory."""

    model: LanguageModel
    dictionaries: list[Dictionary]
    sequences: Sequences


@dataclass(frozen=True)
class Materials:
    """A model, some dictionaries, and a corpus."""

    model_id: str
    model: Path
    dtype: torch.dtype
    dictionaries: dict[str, Path | int]
    """Folders by id; of a layer's neurons, the layer."""
    corpus: Path
    threads: int
    """How many a process on a CPU uses: the last bits of results depend on it."""

    def open(self, device: torch.device) -> Opened:
        """Load all. Raises Invalid for what cannot be loaded."""
        torch.set_num_threads(self.threads)
        model = load_model(self.model_id, self.model, device=device, dtype=self.dtype)
        dictionaries = [
            neuron_dictionary(model, kept)
            if isinstance(kept, int)
            else load_sae(name, kept, device=device, model=model)
            for name, kept in self.dictionaries.items()
        ]
        return Opened(model, dictionaries, load_corpus(self.corpus))
