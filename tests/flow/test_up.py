"""`saescope up` from an empty data folder: ready, healed, ended, started again, continued."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SOURCES
from tests.flow.conftest import on_sqlite, slow_on_postgres
from tests.flow.service import SAESCOPE, Service
from tests.jobs.place import pid_exists

pytestmark = pytest.mark.timeout(900)
CHILDREN = {"app": "app.cli.main", "live": "worker.live.main", "jobs": "worker.jobs.main"}


def test_an_interrupted_first_start_goes_on(service: Service) -> None:
    def states() -> list[str]:
        jobs = httpx.get(f"{service.url}/v1/jobs", params={"kind": "precompute"}).json()["items"]
        bundled = {"model": BUNDLED_MODEL, "saes": [*BUNDLED_SOURCES]}
        return [job["state"] for job in jobs if job["spec"].items() >= bundled.items()]

    # The evidence is served a moment before its job is told to be done.
    _until(lambda: states() == ["done"])


def test_a_first_start_ends_with_pages_and_three_calls_that_work(service: Service) -> None:
    _until(lambda: "Ready at" in service.printed())
    printed = service.printed()
    pages = [line.strip() for line in printed.splitlines() if line.startswith("  http")]
    assert len(pages) == 2 and all(httpx.get(page).status_code == 200 for page in pages)
    calls = [line.strip() for line in printed.splitlines() if line.strip().startswith("curl ")]
    assert len(calls) == 3
    for call in calls:
        ran = subprocess.run(
            [*shlex.split(call), "--silent", "--fail-with-body"], check=True, capture_output=True
        )
        assert json.loads(ran.stdout)


@on_sqlite
def test_the_processes_are_three_and_the_app_has_no_torch(service: Service) -> None:
    pids = _children(service)
    assert set(pids) == set(CHILDREN)
    assert "torch" not in Path(f"/proc/{pids['app']}/maps").read_text()
    assert "torch" in Path(f"/proc/{pids['live']}/maps").read_text()


@on_sqlite
def test_a_second_up_on_the_same_data_folder_is_refused(service: Service) -> None:
    assert service.process
    refused = service.cli("up")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert (
        f"(process {service.process.pid}) serves the data folder {service.data_dir}"
        in refused.stderr
    )


@on_sqlite
def test_a_port_in_use_is_refused(service: Service, tmp_path: Path) -> None:
    other = service.env | {"SAESCOPE_DATA_DIR": str(tmp_path)}
    ran = subprocess.run(
        [SAESCOPE, "up"], env=other, check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        f"saescope: Port {service.port} on 127.0.0.1 cannot be listened on"
    )
    assert ran.stderr.count("\n") == 1


@slow_on_postgres
@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_process_is_survived_and_healed(service: Service, name: str) -> None:
    before = _children(service)
    os.kill(before[name], signal.SIGKILL)
    if name != "app":
        assert httpx.get(f"{service.url}/v1/models").status_code == 200
    _until(lambda: _children(service).get(name, before[name]) != before[name])
    service.wait_ready()
    after = _children(service)
    assert {n: pid for n, pid in after.items() if n != name} == {
        n: pid for n, pid in before.items() if n != name
    }
    assert f"{name} ended (signal 9) and is started again" in service.printed()


@on_sqlite
def test_a_job_can_be_watched_and_goes_on_without_its_watcher(service: Service) -> None:
    done = service.cli("load", "storyworld", "bundled:storyworld")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "storyworld"
    failed = service.cli("train", "storyworld", "2-x", "--hook-name", "blocks.99.nowhere")
    assert failed.returncode == 1
    assert "no hook point blocks.99.nowhere" in failed.stderr
    assert "Traceback" not in failed.stderr
    job = service.cli("load", "storyworld", "bundled:storyworld", "--detach").stdout.strip()
    assert service.cli("jobs", "watch", job).returncode == 0
    assert job in service.cli("jobs", "list").stdout
    assert json.loads(service.cli("jobs", "show", job).stdout)["state"] == "done"
    assert service.cli("jobs", "delete", job).returncode == 0
    assert service.cli("jobs", "show", job).stderr == f"saescope: There is no job {job}.\n"


@on_sqlite
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_a_second_start_redoes_nothing(service: Service, how: int) -> None:
    pids, jobs, runs = _children(service), _jobs(service), _run_ids(service)
    assert service.stop(how) == 0
    assert not any(pid_exists(pid) for pid in pids.values())
    told = len(service.printed())
    service.start().wait_ready()
    _until(lambda: "Ready at" in service.printed()[told:])
    assert "Preparing" not in service.printed()[told:]
    assert (_jobs(service), _run_ids(service)) == (jobs, runs)


@on_sqlite
def test_a_killed_supervisor_leaves_no_orphan(service: Service) -> None:
    pids = _children(service)
    service.stop(signal.SIGKILL)
    _until(lambda: not any(pid_exists(pid) for pid in pids.values()), 20)
    service.start().wait_ready()


def _children(service: Service) -> dict[str, int]:
    """Process ids by name."""
    assert service.process
    found = {}
    for line in Path(f"/proc/{service.process.pid}/task").glob("*/children"):
        for pid in line.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            names = [n for n, module in CHILDREN.items() if module.encode() in command]
            if names and pid_exists(int(pid)) and b"leash" not in b" ".join(command):
                found[names[0]] = int(pid)
    return found


def _jobs(service: Service) -> list[tuple[str, str, str]]:
    items = httpx.get(f"{service.url}/v1/jobs").json()["items"]
    return [(job["id"], job["kind"], job["state"]) for job in items]


def _run_ids(service: Service) -> dict[str, str | None]:
    saes = httpx.get(f"{service.url}/v1/models/storyworld/saes").json()["items"]
    return {sae["id"]: sae["provenance"].get("run_id") for sae in saes}


def _until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
