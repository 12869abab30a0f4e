"""A machine's clock jumps by days, forth and back, under a jobs worker and an API: libfaketime tells them
another time than the rest."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.contract.jobs import CorpusBundled, LoadSpec, PrecomputeSpec
from app.store import progress
from tests.api.server import ServerProcess
from tests.jobs.crew import evidence, shards, until
from tests.jobs.place import Place
from tests.worker.tiny import save_model, save_sae

pytestmark = [pytest.mark.xdist_group("jobs-clock"), pytest.mark.timeout(900)]
DOCUMENTS = 600


class Clock:
    """What processes that are started with `environment` take for the time."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("libfaketime")
        assert spec and spec.origin
        library = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        self._file = folder / "clock"
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, days: int) -> None:
        """So many days from the right time."""
        self._file.write_text(f"{days:+d}d\n")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres")()
    place = Place(tmp_path, url)
    save_model(tmp_path / "model")
    save_sae(tmp_path / "sae", d_sae=3_000)
    yield place
    place.close()


def precompute(sae: str) -> PrecomputeSpec:
    return PrecomputeSpec(model="m", saes=[sae], corpus=CorpusBundled(documents=DOCUMENTS))


def days_off(place: Place, job: str) -> int:
    """How far from the right time the worker's report of a job is."""
    reported = progress.get_progress(place.shelf, [job])[job].updated_at
    assert reported is not None
    return round((reported - datetime.now(UTC)) / timedelta(days=1))


def test_jobs_go_on_and_end_as_ever_when_the_clock_jumps(place: Place, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    place.env |= clock.environment
    place.start_worker()
    for spec in (
        LoadSpec(model="m", path="model"),
        *(LoadSpec(model="m", sae=f"1-{name}", path="sae") for name in ("whole", "b", "c")),
        precompute("1-whole"),
    ):
        assert place.run(spec).state == "done"
    for sae, jump in (("1-b", 2), ("1-c", -2)):
        shutil.rmtree(place.settings.spill_dir)
        job = place.jobs.submit(precompute(sae)).id
        until(lambda: shards(place), place.log.read_text)
        clock.jump(jump)
        assert place.wait(job).state == "done"
        assert evidence(place, sae) == evidence(place, "1-whole")
        # What is submitted now is run as well, until a report shows that the clock has jumped: it is
        # looked at once a second.
        until(lambda jump=jump: _reported(place) == jump)


def _reported(place: Place) -> int:
    view = place.run(LoadSpec(model="m", path="model"))
    assert view.state == "done"
    return days_off(place, view.id)


def test_the_api_answers_and_lists_in_order_when_the_clock_jumps(
    place: Place, tmp_path: Path
) -> None:
    clock = Clock(tmp_path)
    server = ServerProcess(place.settings, **clock.environment).start()
    try:
        made = []
        for jump in (0, 2, -2):
            clock.jump(jump)
            spec = {"kind": "load", "model": "m", "path": "model"}
            made.append(server.client.post("/v1/jobs", json=spec).raise_for_status().json()["id"])
            listed = server.client.get("/v1/jobs").raise_for_status().json()["items"]
            assert {job["id"] for job in listed} == set(made)
            assert server.client.get("/healthz").status_code == 200
        pages, cursor = [], None
        while True:
            page = server.client.get(
                "/v1/jobs", params={"limit": 1} | ({"cursor": cursor} if cursor else {})
            )
            pages += [job["id"] for job in page.raise_for_status().json()["items"]]
            if not (cursor := page.json()["next_cursor"]):
                break
        assert sorted(pages) == sorted(made), "each once, whatever the clock said"
    finally:
        server.stop()
