"""Shards and ranges done by a Ray cluster: the same bytes, whatever dies meanwhile."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.contract.jobs import CorpusBundled, EvaluateSpec, LoadSpec, PrecomputeSpec
from app.errors import Invalid, NotFound, Unavailable
from app.store import read, write
from tests.cluster.ray_cluster import PATIENCE_S, RayCluster
from tests.jobs.crew import evidence
from tests.jobs.place import Place
from tests.jobs.test_precompute import CPU, go
from tests.worker.tiny import save_model, save_sae
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.precompute.settings import Settings
from worker.progress import silent

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]

TEXT = CorpusBundled(documents=150)
SOURCES = ["1-a", "1-signed", "2-mlp"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A model, SAEs, and units small enough that there are many."""
    small = Settings(batch_tokens=512, shard_tokens=2_000, range_features=60)
    monkeypatch.setattr(Settings, "on", classmethod(lambda cls, device: small))
    place = Place(tmp_path)
    save_model(tmp_path / "model")
    go(place, LoadSpec(model="m", path=str(tmp_path / "model")))
    save_sae(tmp_path / "1-a", "topk", d_sae=600, k=8)
    save_sae(tmp_path / "1-signed", "abstopk", d_sae=600)
    load_saes(place)
    yield place
    place.close()


def load_saes(place: Place) -> None:
    for name in ("1-a", "1-signed"):
        go(place, LoadSpec(model="m", sae=name, path=str(place.folder / name)))


class Killer:
    """A `Progress` that kills a process at work, once in each phase."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self.killed: list[str] = []

    def __call__(self, phase: str, done: float, total: float, *_: Any) -> None:
        if phase in ("tokens", "features") and phase not in self.killed and done:
            if not (working := self._cluster.working()):
                return
            working[0].kill()
            self.killed.append(phase)


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_evidence_is_that_of_a_local_run_though_processes_are_killed(
    place: Place, cluster: RayCluster
) -> None:
    spec = PrecomputeSpec(model="m", saes=SOURCES, corpus=TEXT)
    local = go(place, spec)
    expected = {name: evidence(place, name) for name in SOURCES}
    statistics = {name: told(place, name) for name in SOURCES}
    forget(place)
    place.settings = place.settings.model_copy(update={"ray_address": cluster.address})
    killer = Killer(cluster)
    again = go(place, spec, "on ray", report=killer)
    assert killer.killed == ["tokens", "features"]
    assert again["corpus"] == local["corpus"] and again["unchanged"] == []
    for name in SOURCES:
        assert len(expected[name]) == read.sae(place.shelf, "m", name).d_sae
        assert evidence(place, name) == expected[name]
        assert told(place, name) == statistics[name]


def told(place: Place, sae_id: str) -> Any:
    """What is told of a run, but for times."""
    return read.sae(place.shelf, "m", sae_id).provenance["settings"]


def forget(place: Place) -> None:
    """All evidence, and what it was made of."""
    for name in SOURCES:
        with suppress(NotFound):
            write.delete_sae(place.shelf, "m", name)
    load_saes(place)
    shutil.rmtree(place.settings.spill_dir)


def test_an_evaluation_is_that_of_a_local_run(place: Place, cluster: RayCluster) -> None:
    spec = EvaluateSpec(model="m", sae="1-a", corpus=TEXT, tokens=60_000)
    expected = go(place, spec)["evaluation"]
    place.settings = place.settings.model_copy(update={"ray_address": cluster.address})
    seen: list[Any] = []
    found = go(place, spec, report=lambda *_: seen.extend(cluster.working("ray::Member")))
    assert seen, "it was not measured there"
    assert found["evaluation"] == expected


def test_what_cannot_be_worked_with_is_told_by_the_check(
    place: Place, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PrecomputeSpec(model="m", saes=["1-a"], corpus=TEXT)

    def refused(address: str) -> str:
        settings = place.settings.model_copy(update={"ray_address": address})
        check, _ = KINDS["precompute"]
        with pytest.raises((Invalid, Unavailable)) as told:
            check(Job("job", spec, Bench(settings, place.shelf, CPU, 1.0), silent))
        return told.value.detail

    assert "No Ray cluster answers at SAESCOPE_RAY_ADDRESS=127.0.0.1:9 (" in refused("127.0.0.1:9")
    assert "give host:port of a Ray cluster's head" in refused("127.0.0.1:head")
    with monkeypatch.context() as without_ray:
        without_ray.setitem(sys.modules, "ray", None)
        assert "pip install 'saescope[ray]'" in refused(cluster.address)


@pytest.mark.slow
def test_a_job_goes_on_when_it_was_cancelled_and_when_its_worker_was_killed(
    place: Place, cluster: RayCluster
) -> None:
    spec = PrecomputeSpec(model="m", saes=["1-a"], corpus=CorpusBundled(documents=5_000))
    place.start_worker()
    local = place.run(spec)
    assert local.state == "done" and local.result, local.error
    expected = evidence(place, "1-a")
    place.kill_worker()
    forget(place)
    place.env |= cluster.env | {"SAESCOPE_RAY_ADDRESS": cluster.address}
    place.start_worker()
    job = place.jobs.submit(spec).id
    place.wait(job, lambda view: len(shards(place)) > 0)
    place.jobs.cancel(job)
    until(lambda: not cluster.working("ray::Member"), "its processes go on after the cancellation")
    before = shards(place)
    assert place.jobs.retry(job).state == "queued"
    place.wait(job, lambda view: len(shards(place)) > len(before))
    place.kill_worker()
    until(
        lambda: not cluster.working("ray::Member"), "its processes go on after the worker's death"
    )
    killed = shards(place)
    place.start_worker()
    done = place.wait(job)
    assert done.state == "done" and done.result, done.error
    after = shards(place)
    assert 0 < len(before) < len(killed) < len(after)
    assert all(after[name] == number for name, number in killed.items()), "a shard was done again"
    assert done.result["corpus"] == local.result["corpus"]
    assert evidence(place, "1-a") == expected


def shards(place: Place) -> dict[str, int]:
    """Numbers of the folders of complete shards."""
    found = place.settings.spill_dir.glob("*/*/*/")
    return {str(path): path.stat().st_ino for path in found if not path.name.startswith(".")}
