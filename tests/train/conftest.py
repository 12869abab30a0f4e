"""One planted model for all tests."""

import pytest

from tests.train.planted import Planted, load_planted


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return load_planted(tmp_path_factory.mktemp("planted"))
