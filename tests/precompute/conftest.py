"""One small scene for all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scene's model and SAEs are, each in a folder of its name."""
    return tmp_path_factory.mktemp("scene")


@pytest.fixture(scope="session")
def scene(scene_folder: Path):
    """The small scene; see `tests.precompute.scene`."""
    from tests.precompute.scene import build

    return build(scene_folder)
