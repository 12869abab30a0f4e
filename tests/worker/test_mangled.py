"""Whatever is wrong with a stranger's folder, it is loaded or refused with a sentence: no other error, no
hang, no memory for what is not there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.tiny import MODEL_KINDS, SAE_KINDS, ModelKind, save_sae

ROOT = Path(__file__).parents[2]


def check(kind: str, n: int, seed: int, folders: list[Path]) -> None:
    """Cases of a seed end as they may, and enough of them have something wrong."""
    command = [sys.executable, "-m", "tests.worker.mangled", kind, str(n), str(seed)]
    ran = subprocess.run(
        [*command, *map(str, folders)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    print(found)
    assert set(found) <= {"loaded", "refused"} and found["refused"] > n / 3


@pytest.fixture
def saes(tmp_path: Path) -> list[Path]:
    return [save_sae(tmp_path / kind, kind) for kind in SAE_KINDS]


def test_saes(saes: list[Path]) -> None:
    check("sae", 600, 3, saes)


def test_models(folder_of: Callable[[ModelKind], Path]) -> None:
    check("model", 100, 4, [folder_of("gpt2"), folder_of("llama")])


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_many(saes: list[Path], folder_of: Callable[[ModelKind], Path]) -> None:
    check("sae", 10_000, 11, saes)
    check("model", 2_000, 12, [folder_of(kind) for kind in MODEL_KINDS])
