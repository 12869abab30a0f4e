"""Tiny models by architecture, made and loaded once; no test reaches for the hub."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.worker.tiny import ModelKind, save_model
from worker.models import LanguageModel, load_model


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for the model hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModelKind], Path]:
    """Folder of a tiny model by architecture, made once. Not named after the architecture:
    TransformerLens guesses from names."""

    @cache
    def make(kind: ModelKind) -> Path:
        return save_model(tmp_path_factory.mktemp("tiny") / "model", kind)

    return make


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[ModelKind], Path]) -> Callable[[ModelKind], LanguageModel]:
    """A tiny model by architecture, loaded once."""

    @cache
    def load(kind: ModelKind) -> LanguageModel:
        return load_model(f"tiny-{kind}", folder_of(kind))

    return load


@pytest.fixture
def gpt2(model_of: Callable[[ModelKind], LanguageModel]) -> LanguageModel:
    return model_of("gpt2")
