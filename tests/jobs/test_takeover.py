"""Several jobs workers on one Postgres: jobs of one that is gone are run by another, to the same end.

The workers serve the whole module, so the tests run in order.
"""

import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import create_engine, text

from app.contract.jobs import CorpusBundled, LoadSpec, PrecomputeSpec
from app.contract.queues import MAX_STARTS
from app.store import leases
from tests.jobs.crew import Crew, evidence, of, shards, until
from tests.jobs.place import Place, idle_on_sqlite
from tests.jobs.test_turn import take
from tests.worker.tiny import save_model, save_sae

pytestmark = [pytest.mark.xdist_group("jobs-crew"), pytest.mark.timeout(900)]

DOCUMENTS = 800


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory, postgres: Callable[[], str]) -> Iterator[Crew]:
    """Two workers, a model, two SAEs of the same weights, and the evidence of one of them."""
    folder = tmp_path_factory.mktemp("crew")
    place = Place(folder, postgres())
    save_model(folder / "model")
    save_sae(folder / "sae", d_sae=3_000)
    crew = Crew(place)
    for machine in ("a", "b"):
        crew.start(machine)
    loads = [LoadSpec(model="m", path="model")]
    loads += [LoadSpec(model="m", sae=f"1-{name}", path="sae") for name in ("whole", "b", "c")]
    for spec in [*loads, precompute("1-whole")]:
        assert crew.wait(place.jobs.submit(spec).id).state == "done", place.log.read_text()
    yield crew
    crew.close()
    place.close()


def precompute(sae: str, documents: int = DOCUMENTS) -> PrecomputeSpec:
    return PrecomputeSpec(model="m", saes=[sae], corpus=CorpusBundled(documents=documents))


def begun(crew: Crew, sae: str, documents: int = DOCUMENTS) -> tuple[str, str]:
    """A job of which a part is committed, and the machine that runs it."""
    shutil.rmtree(crew.place.settings.spill_dir)
    job = crew.place.jobs.submit(precompute(sae, documents)).id
    until(lambda: shards(crew.place), crew.place.log.read_text)
    return job, crew.who(job)


def test_a_job_whose_worker_is_killed_is_completed_by_another(crew: Crew) -> None:
    job, first = begun(crew, "1-b")
    crew.signal(first, signal.SIGKILL)
    [other] = crew.workers
    assert crew.wait(job).state == "done"
    status = crew.status(job)
    assert status.executor_id == of(other)
    assert (status.recovery_attempts or 0) > 1, "a takeover counts for no start"
    until(lambda: holds(crew) == {of(first): False, of(other): True})
    whole = evidence(crew.place, "1-whole")
    assert len(whole) == 3_000 and evidence(crew.place, "1-b") == whole
    crew.start(first)


def test_a_worker_that_was_stopped_lets_go_of_its_job_and_does_no_harm(crew: Crew) -> None:
    job, first = begun(crew, "1-c")
    crew.signal(first, signal.SIGSTOP)
    [other] = set(crew.workers) - {first}
    until(lambda: crew.status(job).executor_id == of(other), crew.place.log.read_text)
    crew.signal(first, signal.SIGCONT)
    assert crew.wait(job).state == "done"
    assert evidence(crew.place, "1-c") == evidence(crew.place, "1-whole")
    log = crew.place.log.read_text
    until(lambda: f"Job {job} is let go" in log(), log)
    until(lambda: all(holds(crew).values()), log)
    crew.signal(other, signal.SIGKILL)
    again = crew.place.jobs.submit(LoadSpec(model="m", sae="1-d", path="sae")).id
    assert crew.wait(again).state == "done", "the one that was stopped works no more"
    crew.start(other)


def test_jobs_of_a_worker_that_never_had_a_lease_are_taken_over(crew: Crew) -> None:
    job = crew.place.jobs.submit(LoadSpec(model="nobody", path="no folder")).id
    assert crew.wait(job).state == "failed"
    in_dbos(crew.place, "status = 'PENDING', executor_id = 'jobs-0', queue_name = 'light'", job)
    until(lambda: crew.status(job).executor_id != "jobs-0", crew.place.log.read_text)
    assert crew.wait(job).state == "failed"


def test_a_job_that_its_own_worker_does_not_know_of_goes_on(crew: Crew) -> None:
    job = crew.place.jobs.submit(LoadSpec(model="nobody", path="no folder")).id
    assert crew.wait(job).state == "failed"
    worker = of(min(crew.workers))
    lost = f"status = 'PENDING', executor_id = '{worker}', queue_name = 'light'"
    later = f"name = 'a later kind', recovery_attempts = {MAX_STARTS}"
    in_dbos(crew.place, f"{lost}, {later}", job)
    until(lambda: crew.status(job).recovery_attempts == 1, crew.place.log.read_text)
    in_dbos(crew.place, "name = 'load'", job)
    assert crew.wait(job).state == "failed"


def test_a_job_under_which_every_worker_dies_is_parked_and_others_go_on(crew: Crew) -> None:
    poison = crew.place.jobs.submit(precompute("1-d")).id
    crew.signal(crew.who(poison), signal.SIGKILL)
    assert crew.status(poison).status == "PENDING", "it ended before its worker did"
    in_dbos(crew.place, f"recovery_attempts = {MAX_STARTS}", poison)
    next_in_line = crew.place.jobs.submit(precompute("1-whole")).id
    parked = crew.wait(poison)
    assert parked.state == "failed" and parked.error
    assert f"A jobs worker ended under this job {MAX_STARTS} times" in parked.error["detail"]
    assert crew.wait(next_in_line).state == "done"
    assert crew.place.jobs.retry(poison).state == "queued"
    assert crew.wait(poison).state == "done"


def test_of_two_processes_of_one_name_the_older_ends(crew: Crew) -> None:
    [machine] = crew.workers
    older = crew.workers[machine]
    # As on a file system that does not lock between machines.
    (crew.place.settings.data_dir / f"{of(machine)}.lock").unlink()
    crew.start(machine)
    assert older.wait(120) == 1
    assert "Another jobs worker has started as" in crew.place.log.read_text()
    job = crew.place.jobs.submit(LoadSpec(model="m", sae="1-e", path="sae")).id
    assert crew.wait(job).state == "done"


@pytest.mark.slow
def test_a_worker_that_starts_again_goes_on_before_its_lease_has_run_out(crew: Crew) -> None:
    for machine in list(crew.workers):
        crew.signal(machine, signal.SIGKILL)
    crew.start("alone", lease_s=3_600)
    job, _ = begun(crew, "1-d", DOCUMENTS + 1)
    crew.signal("alone", signal.SIGKILL)
    crew.start("alone", lease_s=3_600)
    assert crew.wait(job).state == "done"


@idle_on_sqlite
def test_on_sqlite_jobs_of_a_device_that_is_no_more_go_on_in_another(idle: Place) -> None:
    job = idle.jobs.submit(LoadSpec(model="nobody", path="no folder")).id
    take(idle, 1, 1_000)
    assert idle.jobs.get(job).state == "running"
    idle.start_worker("--lease-seconds", "2")
    assert idle.wait(job).state == "failed"


def holds(crew: Crew) -> dict[str, bool]:
    """Whether the lease of each worker holds."""
    return {worker.name: worker.holds for worker in leases.all_workers(crew.place.shelf)}


def in_dbos(place: Place, change: str, job_id: str) -> None:
    """Change a job behind DBOS' back."""
    engine = create_engine(place.settings.jobs_url)
    with engine.begin() as connection:
        where = text(f"UPDATE dbos.workflow_status SET {change} WHERE workflow_uuid = :id")
        connection.execute(where, {"id": job_id})
    engine.dispose()
