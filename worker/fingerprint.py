"""Names for the content of a folder: sha256 over the files that decide its numbers."""

import hashlib
from pathlib import Path

MODEL_FILES = (
    "*.safetensors",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Weights, configuration and tokenizer of a Hugging Face folder."""

SAE_FILES = ("cfg.json", "sae_weights.safetensors")
"""What SAELens loads from its folder."""


def model_files(path: Path) -> list[Path]:
    """Files of a model folder that matter, sorted by name; a copy of them is a whole model."""
    return sorted(file for pattern in MODEL_FILES for file in path.glob(pattern))


def fingerprint_model(path: Path) -> str:
    """64 hex digits over weights, configuration and tokenizer; reads every byte."""
    return _digest(model_files(path))


def fingerprint_sae(path: Path) -> str:
    """64 hex digits over the SAE's configuration and weights; reads every byte."""
    return _digest([path / name for name in SAE_FILES])


def fingerprint_neurons(model_fingerprint: str, layer: int) -> str:
    """64 hex digits for the neurons of one layer of a model."""
    return hashlib.sha256(f"{model_fingerprint} mlp {layer}".encode()).hexdigest()


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.name} {content}\n".encode())
    return total.hexdigest()
