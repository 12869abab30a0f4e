"""`saescope catalog` on a data folder where nothing has run yet."""

import subprocess
import sys
from pathlib import Path

from tests.flow.service import clean_env

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = clean_env() | {"SAESCOPE_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app.cli.main", "catalog", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True)


def test_it_finds_pretrained_saes_without_service_or_hub(tmp_path: Path) -> None:
    told = run(tmp_path, "gpt2-small-res-jb", "blocks.1.", "--model", "gpt2-small")
    heads, row = told.stdout.splitlines()
    path = "saelens:gpt2-small-res-jb/blocks.1.hook_resid_pre"
    assert row.split() == [path, "gpt2-small", "blocks.1.hook_resid_pre", "10", "0.999"]
    assert heads.index("MODEL") == row.index(" gpt2-small ") + 1
    many = run(tmp_path, "gemma-scope-2-4b", "--limit", "3")
    assert len(many.stdout.splitlines()) == 4
    assert "unknown" in many.stdout
    assert "There are more than 3" in many.stderr
    assert "Nothing in the catalog has all of these words." in run(tmp_path, "nothing").stderr
