"""Jobs that were stopped go on where they were, and end as if they had not been."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.contract.jobs import ExportSpec, ImportSpec
from app.errors import Conflict, NotFound, Unavailable
from app.store import read
from app.store.engine import Shelf
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run
from tests.store import builders
from worker.neuronpedia import export, spool
from worker.progress import Cancelled

MANY = list(range(300))


def stopping_at(phase: str, done: float) -> Callable[..., None]:
    """A report that cancels the job once that much is done."""

    def report(name: str, at: float, total: float, *_: Any, **__: Any) -> None:
        if name == phase and at >= done:
            raise Cancelled

    return report


@pytest.mark.parametrize(
    ("phase", "done"), [("read", 1.0), ("read", 30_000.0), ("features", 128.0)]
)
def test_an_import_goes_on(run: Run, shelf: Shelf, tmp_path: Path, phase: str, done: float) -> None:
    given = made.write(tmp_path / "given", MANY, per_batch=100)
    spec = ImportSpec(path=str(given))
    with pytest.raises(Cancelled):
        run(spec, report=stopping_at(phase, done))
    with pytest.raises(NotFound):
        assert read.features(shelf, made.MODEL, made.SOURCE)
    heard: list[tuple[str, float]] = []
    run(spec, report=lambda name, at, *_, **__: heard.append((name, at)))
    if phase == "features":  # all batches were read
        assert not any(name == "read" for name, _ in heard)
    run(ExportSpec(model=made.MODEL, sae=made.SOURCE, path=str(tmp_path / "out")))
    assert made.contents(tmp_path / "out") == made.contents(given)


def test_files_that_changed_are_read_anew(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    spec = ImportSpec(path=str(made.write(tmp_path / "given", MANY, per_batch=100)))
    with pytest.raises(Cancelled):
        run(spec, report=stopping_at("features", 128.0))
    given = made.write(tmp_path / "given", MANY[:250], per_batch=100)
    (given / "features/batch-2.jsonl.gz").touch()
    for kind in ("explanations",):
        for path in (given / kind).glob("*"):
            path.unlink()
    assert run(spec)["features"] == 250
    assert read.sae(shelf, made.MODEL, made.SOURCE).d_sae == 250


def test_an_export_goes_on(
    run: Run, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH_FEATURES", 32)
    builders.fill(shelf, d_sae=100)
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    run(ExportSpec(model="tiny", sae="0-res", path=whole), id="a")
    spec = ExportSpec(model="tiny", sae="0-res", path=parts)
    with pytest.raises(Cancelled):
        run(spec, id="b", report=stopping_at("features", 64.0))
    assert not Path(parts).exists()
    partial = next(tmp_path.glob(".parts.*"))
    kept = {path: path.stat().st_ino for path in (partial / "features").glob("batch-[01]*")}
    assert len(kept) == 2
    run(spec, id="b")
    assert made.contents(Path(parts)) == made.contents(Path(whole))
    assert {(Path(parts) / "features" / path.name).stat().st_ino for path in kept} == {
        *kept.values()
    }
    assert not list(tmp_path.glob(".parts.*"))
    assert len(list((Path(parts) / "features").glob("*"))) == 4


def test_an_export_that_another_worker_took_over_is_whole(
    run: Run, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stands still in the middle of a batch, and lets go when the other is done."""
    monkeypatch.setattr(export, "BATCH_FEATURES", 32)
    builders.fill(shelf, d_sae=100)
    whole, out = str(tmp_path / "whole"), str(tmp_path / "out")
    run(ExportSpec(model="tiny", sae="0-res", path=whole), id="a")
    spec = ExportSpec(model="tiny", sae="0-res", path=out)
    reports = 0

    def taken_over(*_: Any, **__: Any) -> None:
        nonlocal reports
        reports += 1
        if reports == 50:
            run(spec, id="b")
            raise Cancelled

    with pytest.raises(Cancelled):
        run(spec, id="b", report=taken_over)
    assert made.contents(Path(out)) == made.contents(Path(whole))
    assert not list(Path(out).glob("**/.*"))


def test_an_import_waits_for_whoever_still_writes_its_rows(
    run: Run, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is not thrown away because it cannot be looked at."""
    monkeypatch.setattr(spool, "WAIT_S", 0.2)
    given = made.write(tmp_path / "given", MANY, per_batch=100)
    spec = ImportSpec(path=str(given))
    with pytest.raises(Cancelled):
        run(spec, report=stopping_at("features", 128.0))
    [file] = tmp_path.rglob("rows.db")
    before = file.stat().st_ino
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="still writes"):
            run(spec)
    assert file.stat().st_ino == before
    assert run(spec)["features"] == len(MANY)


def test_a_folder_that_somebody_made_meanwhile_is_not_taken_for_the_export(
    run: Run, shelf: Shelf, tmp_path: Path
) -> None:
    builders.fill(shelf)
    spec = ExportSpec(model="tiny", sae="0-res", path=str(tmp_path / "out"))

    def make_it(*_: Any, **__: Any) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "mine").touch()

    with pytest.raises(Conflict, match="is there already"):
        run(spec, report=make_it)
    # As a worker goes on that was killed: what it has checked it does not check again.
    with pytest.raises(Conflict, match="is there already"):
        run(spec, checked=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
