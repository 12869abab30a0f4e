"""Copies into the data folder: whole, once, and completed when they come again with more."""

from pathlib import Path

from worker.jobs.folders import copy_in
from worker.progress import silent


def test_a_copy_gets_the_files_that_it_lacks_and_keeps_those_it_has(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    names = ("weights", "extra", "absent")
    (source / "weights").write_text("1")
    copy_in([source / name for name in names], target, silent)
    (source / "weights").write_text("2")
    (source / "extra").write_text("told")
    copy_in([source / name for name in names], target, silent)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "weights": "1",
        "extra": "told",
    }
