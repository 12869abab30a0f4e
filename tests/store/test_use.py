"""Users of a data folder: many at once, or one alone."""

from pathlib import Path

import pytest

from app.errors import Conflict
from app.store.use import alone, using


def test_many_use_a_folder_or_one_alone(tmp_path: Path) -> None:
    with (
        using(tmp_path),
        using(tmp_path),
        pytest.raises(Conflict, match="stop it"),
        alone(tmp_path),
    ):
        pass
    with alone(tmp_path), pytest.raises(Conflict, match="wait until it is done"), using(tmp_path):
        pass
    with alone(tmp_path):
        pass
