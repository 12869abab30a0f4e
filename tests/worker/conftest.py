"""Checks every annotation of the worker, tensor shapes included, while its tests run."""

import os

import pytest
from jaxtyping import install_import_hook

install_import_hook(["worker"], "beartype.beartype")

# Two cores are shared with everything else that runs here.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for the model hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
