"""A Hugging Face cache on disk, as a download leaves it; with it the hub's client works offline."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0" * 40


class Hub:
    """Files of repositories, where the hub's client looks for what it has downloaded."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        cache.mkdir()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(self, repo: str, fill: Callable[[Path], object]) -> None:
        """Let `fill` write into the folder of a repository."""
        root = self.cache / f"models--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / "main").write_text(COMMIT)
        snapshot = root / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        fill(snapshot)
