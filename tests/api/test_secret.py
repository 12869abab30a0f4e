"""The token that app and live worker share."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import Problem
from app.secret import shared_token
from app.settings import Settings

PRINT = """
import sys
from pathlib import Path
from app.secret import shared_token
from app.settings import Settings
print(shared_token(Settings(data_dir=Path(sys.argv[1]))))
"""


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    umask = os.umask(0)
    try:
        token = shared_token(settings)
    finally:
        os.umask(umask)
    assert len(token) >= 32
    assert stat.S_IMODE(settings.token_file.stat().st_mode) == 0o600
    assert shared_token(settings) == token
    assert [path.name for path in settings.data_dir.iterdir()] == [settings.token_file.name]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    tokens = {process.communicate(timeout=120)[0].strip() for process in started}
    assert len(tokens) == 1
    assert len(tokens.pop()) >= 32


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.token_file.touch()
    with pytest.raises(Problem, match="is empty; delete it"):
        shared_token(settings)
