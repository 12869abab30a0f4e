"""From any format to a SAELens folder."""

import json
from pathlib import Path
from types import ModuleType

from safetensors.torch import save_file

from worker.foreign import circuit_tracer, dictionary_learning, gemma_scope, openai, sparsify
from worker.foreign.parts import Foreign, Told

_FORMATS: tuple[ModuleType, ...] = (
    dictionary_learning,
    sparsify,
    gemma_scope,
    circuit_tracer,
    openai,
)
"""The last one takes any `.pt` file."""


def read_foreign(folder: Path, told: Told) -> Foreign | None:
    """The SAE in a folder of another format than SAELens'; None when it looks like none of them.

    Raises:
        Invalid: the files are damaged, could run code, lack something, or hold what SAELens has no
            architecture for.
    """
    if (folder / "sae_weights.safetensors").is_file():
        return None
    kind = next((kind for kind in _FORMATS if kind.is_here(folder)), None)
    return kind.read(folder, told) if kind else None


def write_sae(foreign: Foreign, folder: Path) -> None:
    """Write a SAELens folder. Its bytes are a function of the SAE."""
    weights = {name: weight.contiguous() for name, weight in foreign.weights.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(foreign.config(), indent=2, sort_keys=True))
