"""Tiny models and SAEs, and the live worker over them as a real process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.live.process import LiveProcess
from tests.live.world import World, build_world, stories_world


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A Gemma 2 (sliding window, softcap, norms after attention and MLP) with the same SAEs."""
    return build_world(tmp_path_factory.mktemp("third"), "gemma2")


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small trained model, where the shared data is there."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "models" / "stories260K"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return stories_world(tmp_path_factory.mktemp("stories"), folder)


@pytest.fixture(scope="session")
def live(
    tmp_path_factory: pytest.TempPathFactory, world: World, llama: World, gemma: World
) -> Iterator[LiveProcess]:
    """The live worker as a process, over the three models."""
    running = LiveProcess(tmp_path_factory.mktemp("live"), [world, llama, gemma])
    try:
        yield running.start()
    finally:
        running.stop()
