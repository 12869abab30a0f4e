"""Collecting: what is referred to stays, what is not goes, in slices."""

import contextlib
import os
import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from app.store import garbage, lists, lookup, progress, read, vectors, write
from app.store.engine import Shelf
from app.store.tables import corpora, corpus_chunks, features, run_ranges, runs
from tests.store import builders

NOW = timedelta(0)
TABLES = (features, runs, run_ranges, corpora, corpus_chunks)


def rows(shelf: Shelf) -> dict[str, int]:
    """Rows of the tables that are collected."""
    with shelf.read() as connection:
        count = select(func.count())
        return {
            table.name: connection.execute(count.select_from(table)).scalar_one()
            for table in TABLES
        }


def folder(path: Path) -> Path:
    """A folder with a file of ten bytes."""
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"0123456789")
    return path


def test_what_is_served_stays(shelf: Shelf, tmp_path: Path) -> None:
    tokens = builders.fill(shelf)
    progress.add_job(shelf, "job-1")
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "begun")
    write.put_features(shelf, "begun", builders.batch(tokens, 0, 32))
    kept = [
        folder(tmp_path / "models" / ("f" * 16)),
        folder(tmp_path / "saes" / ("a" * 16)),
        folder(tmp_path / "corpora" / ("c" * 16)),
        folder(tmp_path / "checkpoints" / "job-1"),
        folder(tmp_path / "spill" / ("a" * 16)),
        folder(tmp_path / "logs" / "whatever"),
    ]
    before = rows(shelf)
    assert garbage.collect_garbage(shelf, tmp_path, NOW) == garbage.Collected(0, 0, 0, 0)
    assert rows(shelf) == before
    assert all((path / "file").exists() for path in kept)


def test_what_people_keep_stays_when_its_model_goes(shelf: Shelf, tmp_path: Path) -> None:
    builders.fill(shelf)
    kept = lists.new(shelf, "me", "mine", "", None, {("tiny", "0-res", 3): "a feature"})
    made = vectors.new(shelf, "me", "tiny", "0-neuronpedia-resid-pre", "up", "h", 1, np.ones(8))
    write.delete_model(shelf, "tiny")
    garbage.collect_garbage(shelf, tmp_path, NOW)
    assert rows(shelf) == dict.fromkeys(rows(shelf), 0)
    found, (item,) = lists.get(shelf, kept.id)
    assert (found, item.name) == (kept, ("tiny", "0-res", 3))
    assert [one.number for one in vectors.owned(shelf, "me")] == [made.number]


def test_a_superseded_run_goes_and_the_new_one_stays(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_ROWS_A_TRANSACTION", 10)
    tokens = builders.fill(shelf)
    builders.put_run(shelf, tokens, "run-2", seed=2)
    before = read.features(shelf, "tiny", "0-res", q="tok7", limit=100)
    assert garbage.collect_garbage(shelf, tmp_path).features == 64
    assert rows(shelf)["features"] == 64
    assert rows(shelf)["runs"] == 1
    assert read.features(shelf, "tiny", "0-res", q="tok7", limit=100) == before
    assert lookup.feature(shelf, "tiny", "0-res", 3).run_id == "run-2"


def test_all_that_a_model_left_goes(shelf: Shelf, tmp_path: Path) -> None:
    builders.fill(shelf)
    for kind, name in (
        ("models", "f" * 16),
        ("saes", "a" * 16),
        ("spill", "a" * 16),
        ("corpora", "c" * 16),
    ):
        folder(tmp_path / kind / name)
    write.delete_model(shelf, "tiny")
    assert garbage.collect_garbage(shelf, tmp_path, NOW) == garbage.Collected(64, 1, 4, 40)
    assert set(rows(shelf).values()) == {0}
    assert not any((tmp_path / "models").iterdir())


def test_a_deleted_job_leaves_its_folders(shelf: Shelf, tmp_path: Path) -> None:
    progress.add_job(shelf, "job-1")
    checkpoint = folder(tmp_path / "checkpoints/job-1")
    progress.delete_progress(shelf, "job-1")
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 1
    assert not checkpoint.exists()


def test_what_a_running_job_may_still_refer_to_stays_for_an_hour(
    shelf: Shelf, tmp_path: Path
) -> None:
    tokens = builders.corpus()
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    fresh = folder(tmp_path / "models" / "being-copied")
    os.utime(fresh / "file", (0, 0))  # copies keep the times of what they are copies of
    os.utime(fresh, (0, 0))
    assert garbage.collect_garbage(shelf, tmp_path) == garbage.Collected(0, 0, 0, 0)
    assert garbage.collect_garbage(shelf, tmp_path, NOW) == garbage.Collected(0, 1, 1, 10)


def test_the_corpus_of_a_job_stays_as_long_as_its_checkpoints(shelf: Shelf, tmp_path: Path) -> None:
    corpus = folder(tmp_path / "corpora" / ("d" * 16))
    checkpoints = folder(tmp_path / "checkpoints" / "job-1")
    (checkpoints / "corpus.json").write_text(f'{{"id": "{"d" * 64}"}}')
    progress.add_job(shelf, "job-1")
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 0
    progress.delete_progress(shelf, "job-1")
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 2
    assert not corpus.exists()


def test_a_folder_that_is_put_to_use_meanwhile_stays(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another is removed first; while that goes on, a job registers one of these and touches the
    other."""
    for kind, name in (("checkpoints", "first"), ("models", "f" * 16), ("saes", "touched")):
        folder(tmp_path / kind / name)
    remove, future = shutil.rmtree, time.time() + 60

    def meanwhile(path: Path) -> None:
        remove(path)
        write.put_model(shelf, builders.model_record(), builders.vocabulary())
        os.utime(tmp_path / "saes" / "touched", (future, future))

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 1
    assert (tmp_path / "models" / ("f" * 16)).exists()
    assert (tmp_path / "saes" / "touched").exists()


def test_folders_may_vanish_by_themselves(shelf: Shelf, tmp_path: Path) -> None:
    """Jobs that end remove their folders while they are looked at."""
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            made = folder(tmp_path / "checkpoints" / secrets.token_hex(4))
            shutil.rmtree(made, ignore_errors=True)

    with ThreadPoolExecutor(1) as pool:
        jobs = pool.submit(come_and_go)
        try:
            for _ in range(50):
                garbage.collect_garbage(shelf, tmp_path, NOW)
        finally:
            stop.set()
        with contextlib.suppress(FileNotFoundError):  # its folder was collected before it was full
            jobs.result()


def test_what_a_killed_restore_left_goes(shelf: Shelf, tmp_path: Path) -> None:
    left = folder(tmp_path / ".restore-x" / "models" / "a").parents[1]
    assert garbage.collect_garbage(shelf, tmp_path).folders == 0
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 1
    assert not left.exists()


def test_a_folder_loses_its_name_before_its_files(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that was interrupted leaves nothing that could be taken for a whole folder."""
    doomed = folder(tmp_path / "models" / "old")

    def interrupted(path: Path) -> None:
        (path / "file").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            garbage.collect_garbage(shelf, tmp_path, NOW)
    assert not doomed.exists()
    assert garbage.collect_garbage(shelf, tmp_path, NOW).folders == 1
    assert not any((tmp_path / "models").iterdir())


def test_chunks_left_by_an_interrupted_collection_go(shelf: Shelf, tmp_path: Path) -> None:
    tokens = builders.fill(shelf)
    other = builders.corpus(id="d" * 64)
    write.put_corpus(shelf, other.record, other.flat, other.offsets)
    before = rows(shelf)["corpus_chunks"]
    with shelf.write() as connection:
        connection.execute(corpora.delete().where(corpora.c.id == other.record.id))
    garbage.collect_garbage(shelf, tmp_path, NOW)
    assert rows(shelf)["corpus_chunks"] == before // 2
    assert lookup.feature(shelf, "tiny", "0-res", 0).examples
    assert tokens.record.id == "c" * 64


def test_an_abandoned_run_goes_in_the_end(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "begun")
    write.put_features(shelf, "begun", builders.batch(tokens, 0, 32))
    monkeypatch.setattr(garbage, "ABANDONED", NOW)
    assert garbage.collect_garbage(shelf, tmp_path).features == 32
    assert rows(shelf)["runs"] == 1


def test_sqlite_gives_the_space_back(tmp_path: Path, sqlite_shelf: Shelf) -> None:
    builders.fill(sqlite_shelf, d_sae=1_000)
    file = tmp_path / "shelf.db"
    write.delete_model(sqlite_shelf, "tiny")
    before = size(sqlite_shelf, file)
    garbage.collect_garbage(sqlite_shelf, tmp_path, NOW)
    assert size(sqlite_shelf, file) < before / 5


def size(shelf: Shelf, file: Path) -> int:
    """Bytes of a SQLite file, its log written into it."""
    with shelf.reader.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
    return file.stat().st_size
