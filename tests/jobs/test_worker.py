"""Real jobs in a real worker: they run, fail with a reason, stop when told, and survive a kill.

One worker a database serves the whole module, so the tests of a database run in order.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.contract.jobs import CorpusBundled, JobView, LoadSpec, PrecomputeSpec, TrainSpec
from app.main import create_app
from app.store import read
from app.store.tables import features, runs
from tests.jobs.crew import evidence
from tests.jobs.place import Place, pid_exists

pytestmark = [pytest.mark.xdist_group("jobs-worker"), pytest.mark.timeout(900)]

TEXT = CorpusBundled(documents=300)
on_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True, scope="module")
"""For what no database has a part in."""


def _train(sae: str, **changed: Any) -> TrainSpec:
    """A training of a few seconds."""
    spec = {"model": "m", "sae": sae, "hook_name": "blocks.1.hook_resid_post", "corpus": TEXT,
            "d_sae": 64, "k": 4, "training_tokens": 150_000, "train_batch_tokens": 256}  # fmt: skip
    return TrainSpec(**{**spec, **changed})


def test_a_model_and_saes_are_loaded(place: Place) -> None:
    loaded = place.run(LoadSpec(model="m", path="model"))
    assert loaded.state == "done", loaded.error
    assert loaded.progress == 1 and loaded.result
    model = read.model(place.shelf, "m")
    assert model.fingerprint == loaded.result["fingerprint"]
    assert model.hook_points["blocks.1.hook_resid_post"] == 32
    assert Path(model.path).parent == place.settings.data_dir / "models"
    assert len(read.vocabulary(place.shelf, "m").display) == model.vocab_size
    for sae in ("1-a", "1-b"):
        assert place.run(LoadSpec(model="m", sae=sae, path="sae")).state == "done"
    assert read.sae(place.shelf, "m", "1-a").status == "registered"
    again = place.run(LoadSpec(model="m", sae="1-a", path="sae"))
    assert again.state == "done"


def test_a_job_that_cannot_work_fails_with_the_reason(place: Place) -> None:
    failed = place.run(_train("1-x", hook_name="blocks.9.nothing"))
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["status"] == 422
    assert failed.error["type"] == "urn:saescope:problem:invalid"
    assert "no hook point blocks.9.nothing" in failed.error["detail"]
    assert "blocks.1.hook_resid_post" in failed.error["hook_points"]


def test_an_unexpected_error_is_a_short_sentence_and_the_log_has_the_rest(place: Place) -> None:
    folder = place.settings.data_dir / "checkpoints"
    folder.mkdir(exist_ok=True)
    folder.rename(folder.with_name("kept"))
    folder.write_text("a file where a folder should be")
    try:
        failed = place.run(_train("1-x"))
    finally:
        folder.unlink()
        folder.with_name("kept").rename(folder)
    assert failed.error is not None
    assert failed.error["status"] == 500
    assert len(failed.error["detail"]) < 400
    assert "Traceback" not in failed.error["detail"]
    assert 'worker/jobs/workflows.py", line' in place.log.read_text()
    assert place.jobs.retry(failed.id).state == "queued"
    assert place.wait(failed.id).state == "done"


@on_sqlite
def test_training_goes_on_after_a_kill_and_ends_in_the_same_bytes(place: Place) -> None:
    relu = {"architecture": "standard", "hook_name": "blocks.0.hook_resid_post"}
    whole = place.run(_train("1-whole", also=[{"sae": "0-whole", **relu}]))
    assert whole.state == "done", whole.error
    killed = place.jobs.submit(_train("1-killed", also=[{"sae": "0-killed", **relu}])).id
    steps = place.settings.data_dir / "checkpoints" / killed / "steps"
    place.wait(killed, lambda view: view.progress > 0.3 and any(steps.glob("step-*")))
    place.kill_worker()
    before = place.jobs.get(killed)
    assert before.state == "running"
    place.start_worker()
    resumed = place.wait(killed, lambda view: view.updated_at > before.updated_at and _trains(view))
    assert resumed.progress > 0.15, "training began again from nothing"
    done = place.wait(killed)
    assert done.state == "done", done.error
    assert done.result and whole.result
    assert done.result["fingerprint"] == whole.result["fingerprint"]
    assert done.result["evaluation"] == whole.result["evaluation"]
    [also], [expected] = done.result["also"], whole.result["also"]
    assert (also.pop("sae"), expected.pop("sae")) == ("0-killed", "0-whole")
    assert also == expected and also["fingerprint"] != done.result["fingerprint"]
    assert read.sae(place.shelf, "m", "0-killed").hook_name == "blocks.0.hook_resid_post"
    assert {"1-killed.loss", "0-killed.loss"} <= set(done.metrics)
    assert not steps.parent.exists()
    _has_curves(place, done)


def _has_curves(place: Place, job: JobView) -> None:
    """Of each SAE, and of one when it is named."""
    with TestClient(create_app(place.settings), base_url="http://localhost") as client:
        path = f"/v1/jobs/{job.id}/curve.svg"
        both, one = client.get(path), client.get(path, params={"sae": "0-killed"})
        assert both.text.count("<polyline") == 2 * one.text.count("<polyline") > 0
        assert ">0-killed</text>" in both.text
        nobody = client.get(path, params={"sae": "0-nobody"})
        assert nobody.status_code == 404
        assert "trained no SAE 0-nobody; it trained 1-killed, 0-killed." in nobody.text
        assert client.get(path, params={"of": "0-killed"}).status_code == 422


def test_precompute_goes_on_after_a_kill_and_ends_in_the_same_rows(place: Place) -> None:
    corpus = CorpusBundled(documents=800)
    whole = place.run(PrecomputeSpec(model="m", saes=["1-a"], corpus=corpus))
    assert whole.state == "done", whole.error
    spill = place.settings.spill_dir
    assert _shards(spill), "nothing is kept for a later run"
    shutil.rmtree(spill)
    killed = place.jobs.submit(PrecomputeSpec(model="m", saes=["1-b"], corpus=corpus)).id
    place.wait(killed, lambda view: len(_shards(spill)) > 0)
    place.kill_worker()
    complete = _shards(spill)
    place.start_worker()
    place.wait(killed, lambda view: _committed(place, killed) > 0)
    place.kill_worker()
    assert _committed(place, killed) < 3_000, "all evidence was there when the worker was killed"
    place.start_worker()
    done = place.wait(killed)
    assert done.state == "done", done.error
    assert complete, "no shard was complete when the worker was killed"
    rows = evidence(place, "1-a")
    assert len(rows) == 3_000
    assert evidence(place, "1-b") == rows


def test_a_deleted_job_leaves_nothing_to_the_next_with_its_key(place: Place) -> None:
    first = PrecomputeSpec(model="m", saes=["1-a"], corpus=CorpusBundled(documents=1_200, seed=7))
    second = first.model_copy(update={"corpus": CorpusBundled(documents=20, seed=8)})
    job = place.jobs.submit(first, "key").id
    note = place.settings.data_dir / "checkpoints" / job / "corpus.json"
    place.wait(job, lambda view: note.exists())
    place.jobs.cancel(job)
    place.jobs.delete(job)
    done = place.wait(place.jobs.submit(second, "key").id)
    assert done.state == "done", done.error
    assert done.result
    same = place.run(second).result
    assert same and done.result["corpus"] == same["corpus"]
    assert read.sae(place.shelf, "m", "1-a").provenance["corpus"] == same["corpus"]
    assert json.loads(note.read_text())["id"] != same["corpus"]


def test_a_cancelled_job_stops_and_a_retry_goes_on(place: Place) -> None:
    long = place.jobs.submit(_train("1-long", training_tokens=20_000_000))
    place.wait(long.id, lambda view: view.phase == "train" and view.progress > 0.07)
    assert place.jobs.cancel(long.id).state == "cancelled"
    # There is one heavy job at a time: this one runs only if the cancelled one has stopped.
    assert place.run(_train("1-next", training_tokens=20_000)).state == "done"
    stopped = place.jobs.get(long.id)
    assert stopped.state == "cancelled"
    assert stopped.progress < 0.5
    assert (place.settings.data_dir / "checkpoints" / long.id / "steps").exists()
    assert place.jobs.retry(long.id).state == "queued"
    going_on = place.wait(long.id, lambda view: view.state == "running" and _trains(view))
    assert going_on.progress >= stopped.progress - 0.05
    place.jobs.cancel(long.id)
    place.jobs.delete(long.id)


@on_sqlite
def test_sigterm_ends_the_worker_at_once_and_its_job_goes_on(place: Place) -> None:
    job = place.jobs.submit(_train("1-term")).id
    place.wait(job, _trains)
    assert place.kill_worker(signal.SIGTERM) == 0
    assert place.jobs.get(job).state == "running"
    place.start_worker()
    assert place.wait(job).state == "done"


@on_sqlite
def test_a_second_worker_is_refused(place: Place) -> None:
    place.wait(place.jobs.submit(_train("1-last", training_tokens=20_000)).id)
    first = place._worker
    assert first and pid_exists(first.pid)
    place.start_worker()
    second = place._worker
    assert second and second.wait(120) == 1
    place._worker = first
    assert "already serves the data folder" in place.log.read_text()
    assert pid_exists(first.pid)


def _trains(view: Any) -> bool:
    return view.phase == "train"


def _shards(spill: Path) -> list[Path]:
    return [path for path in spill.glob("*/*/*/") if not path.name.startswith(".")]


def _committed(place: Place, job_id: str) -> int:
    """Features that a job has put on the shelf."""
    query = select(func.count()).select_from(features).join(runs)
    with place.shelf.read() as connection:
        return connection.execute(query.where(runs.c.id.startswith(job_id))).scalar_one()
