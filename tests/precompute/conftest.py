"""One small scene for all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory):
    """The small scene; see `tests.precompute.scene`."""
    from tests.precompute.scene import build

    folder: Path = tmp_path_factory.mktemp("scene")
    return build(folder)
