"""A run that is killed with -9, again and again, leaves the shelf that an uninterrupted one does."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.store.engine import transacting
from tests.precompute.killed import differences

ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A folder of shelves, one of them whole, and what was told of the others. Every time the
    moments are other ones."""
    folder, seed = tmp_path_factory.mktemp("killed"), secrets.randbits(32)
    print(f"seed {seed}")
    command = [sys.executable, "-m", "tests.precompute.killed", str(folder), str(seed), str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_nothing_is_lost_or_doubled(killed: tuple[Path, dict]) -> None:
    told = killed[1]
    assert sum(told["kills"].values()) == KILLS
    assert told["wrong"] == [] and told["suspect"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM run_ranges WHERE run = 1 AND first = 0",
        "UPDATE features SET evidence = zeroblob(9) WHERE id = (SELECT max(id) FROM features)",
        "UPDATE runs SET state = 'building' WHERE number = 2",
    ],
)
def test_a_difference_would_be_seen(killed: tuple[Path, dict], tmp_path: Path, damage: str) -> None:
    whole = killed[0] / "whole"
    shutil.copytree(whole, other := tmp_path / "other")
    assert differences(whole, other) == []
    engine = transacting(f"sqlite:///{other}/shelf.db")
    with engine.begin() as connection:
        assert connection.exec_driver_sql(damage).rowcount == 1
    engine.dispose()
    assert len(differences(whole, other)) == 1
