"""Database and disk that fail under a job: waited out, or told in a sentence and gone on from."""

import time
from pathlib import Path

import pytest
import torch
from dbos import PortableWorkflowError
from sqlalchemy import create_engine, text

from app.contract.jobs import PrecomputeSpec
from app.store import engine, read
from app.store import write as shelf_writer
from tests.jobs.place import Place
from tests.jobs.test_precompute import evidence, go, loaded
from worker.jobs import away, precompute, workflows
from worker.jobs.job import Bench, Job
from worker.precompute.appender import Appender
from worker.progress import silent


def cut_connections(place: Place) -> None:
    engine = create_engine(place.settings.shelf_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()
    time.sleep(0.1)


@pytest.mark.parametrize("idle", ["postgres"], indirect=True)
def test_connections_that_are_cut_cost_a_job_nothing(
    idle: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "AGAIN_S", 0.05)
    spec, cuts = loaded(idle, prepend_bos=True), []

    def cut_in_the_middle(*arguments: object) -> None:
        if len(cuts) < 4:
            cuts.append(1)
            with idle.shelf.write() as connection:
                cut_connections(idle)
                connection.execute(text("SELECT 1"))
        shelf_writer.put_features(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(precompute, "put_features", cut_in_the_middle)
    go(idle, spec)
    assert len(cuts) == 4
    found = evidence(idle)
    monkeypatch.undo()
    shelf_writer.delete_sae(idle.shelf, "m", "1-a")
    go(idle, loaded(idle, prepend_bos=True), "whole")
    assert evidence(idle) == found


@pytest.mark.parametrize("idle", ["postgres"], indirect=True)
def test_a_process_that_stood_still_inside_a_transaction_goes_on(
    idle: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE_TRANSACTION_S", 1)
    idle.shelf.writer.dispose()
    stood = []

    def stand_still(*arguments: object) -> None:
        if not stood:
            with idle.shelf.write() as connection:
                stood.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
                gone = text("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")
                with idle.shelf.read() as other:
                    while not other.execute(gone, {"pid": stood[0]}).scalar_one():
                        time.sleep(0.1)
                connection.execute(text("SELECT 1"))
        shelf_writer.put_features(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(precompute, "put_features", stand_still)
    go(idle, loaded(idle, prepend_bos=True))
    assert stood and read.sae(idle.shelf, "m", "1-a").status == "ready"


def failing(place: Place, spec: PrecomputeSpec) -> str:
    """What is stored of a job that fails."""
    job = Job("job", spec, Bench(place.settings, place.shelf, precompute_device(), 1.0), silent)
    with pytest.raises(PortableWorkflowError) as caught:
        workflows._guarded(precompute.precompute_features, job)
    assert caught.value.code == 503
    return str(caught.value)


def precompute_device():
    from worker.models import resolve_device

    return resolve_device("cpu")


def test_a_full_disk_is_told_and_gone_on_from(idle: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = loaded(idle, prepend_bos=True)

    append = Appender.append

    def on_a_full_disk(self: Appender, file: Path, values: torch.Tensor) -> None:
        append(self, Path("/dev/full"), values)

    with monkeypatch.context() as patch:
        patch.setattr(Appender, "append", on_a_full_disk)
        assert "The disk is full; free some" in failing(idle, spec)
    assert read.sae(idle.shelf, "m", "1-a").run_id is None
    assert not [path for path in Path(idle.settings.spill_dir).glob("*/*/*/")]
    go(idle, spec)
    assert read.sae(idle.shelf, "m", "1-a").status == "ready"


def test_a_database_that_stays_away_is_told(idle: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = loaded(idle, prepend_bos=True)

    def away_for_good(*_: object) -> None:
        with create_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing").connect():
            pass

    monkeypatch.setattr(precompute, "put_features", away_for_good)
    monkeypatch.setattr(away, "PATIENCE_S", 0.0)
    monkeypatch.setattr(away, "RUNS", 1)
    assert "The database does not answer" in failing(idle, spec)
    monkeypatch.undo()
    go(idle, spec)
    assert read.sae(idle.shelf, "m", "1-a").status == "ready"
