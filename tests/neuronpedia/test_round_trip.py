"""What is imported is exported again: equal rows, in whatever order."""

from pathlib import Path

import pytest

from app.contract.jobs import ExportSpec, ImportSpec
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run

INDICES = [0, 1, 2, 4, 5, 6, 7, 8, 130, 131, 300]
"""Not all there are, over several ranges of the shelf."""


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("order", ["numbers", "digits"])
def test_every_column_comes_back(run: Run, tmp_path: Path, gz: bool, order: str) -> None:
    indices = sorted(INDICES, key=str) if order == "digits" else INDICES
    given = made.write(tmp_path / "given", indices, gz=gz)
    imported = run(ImportSpec(path=str(given)))
    assert imported["features"] == len(INDICES)
    exported = run(ExportSpec(model=made.MODEL, sae=made.SOURCE, path=str(tmp_path / "out")))
    assert exported["features"] == len(INDICES)
    before, after = made.contents(given), made.contents(tmp_path / "out")
    assert before.keys() == after.keys()
    for kind in before:
        assert before[kind] == after[kind], kind
