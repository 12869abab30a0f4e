"""The bundled model and SAEs, registered and with their evidence, once.

Every step is a job whose Idempotency-Key is its content: when the first start is interrupted, the
second finds the same jobs and they go on. What the shelf has already is not done again.
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from app.console import Bar
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES, BUNDLED_SOURCES, BUNDLED_SPLIT
from app.contract.ids import is_neuron_source
from app.contract.jobs import FINAL, JobSpec, JobView, LoadSpec, PrecomputeSpec
from app.errors import NotFound, Problem, from_body
from app.jobs import Jobs
from app.news import POLL_S
from app.store import read
from app.store.engine import Shelf
from app.store.records import SaeRecord

PRECOMPUTE_SHARE = 0.9
"""Part of the bar; the loads share the rest."""


class Stopped(Exception):
    """The service ends before the first start is complete."""


def prepare(jobs: Jobs, shelf: Shelf, stopping: Callable[[], bool]) -> None:
    """Do what is missing, with one progress bar; nothing when all is there.

    Raises a `Problem` when a job failed, `Stopped` when `stopping` became true.
    """
    loads, sources = list(_missing_loads(shelf)), _without_evidence(shelf)
    if not loads and not sources:
        return
    with Bar(f"Preparing {BUNDLED_MODEL}") as bar:
        share = (1 - PRECOMPUTE_SHARE) / max(1, len(loads))
        for number, spec in enumerate(loads):
            _run(jobs, spec, bar, number * share, share, stopping)
        if sources:
            spec = PrecomputeSpec(model=BUNDLED_MODEL, saes=sources)
            _run(jobs, spec, bar, 1 - PRECOMPUTE_SHARE, PRECOMPUTE_SHARE, stopping)


def bundled_saes() -> list[str]:
    """Ids of the SAEs whose files came along. Looks at the worker's folder, imports nothing."""
    worker = find_spec("worker")
    assert worker and worker.submodule_search_locations
    folder = Path(worker.submodule_search_locations[0]) / "demo" / "saes"
    return [sae_id for sae_id in BUNDLED_SAES if (folder / sae_id).is_dir()]


def _missing_loads(shelf: Shelf) -> Iterator[JobSpec]:
    try:
        read.model(shelf, BUNDLED_MODEL)
    except NotFound:
        yield LoadSpec(model=BUNDLED_MODEL, path=f"bundled:{BUNDLED_MODEL}")
    for sae_id in bundled_saes():
        if _find(shelf, sae_id) is None:
            path = f"bundled:{BUNDLED_MODEL}/{sae_id}"
            yield LoadSpec(model=BUNDLED_MODEL, sae=sae_id, path=path)


def _without_evidence(shelf: Shelf) -> list[str]:
    """What has no evidence; neurons and the SAE that splits them when either has none, since a split
    takes evidence from one text."""
    here = bundled_saes()
    wanted = [one for one in BUNDLED_SOURCES if one in here or is_neuron_source(one)]
    missing = {one for one in wanted if not _has_evidence(shelf, one)}
    if missing & set(BUNDLED_SPLIT):
        missing |= set(BUNDLED_SPLIT)
    return [one for one in wanted if one in missing]


def _has_evidence(shelf: Shelf, sae_id: str) -> bool:
    found = _find(shelf, sae_id)
    return found is not None and found.status == "ready"


def _find(shelf: Shelf, sae_id: str) -> SaeRecord | None:
    try:
        return read.sae(shelf, BUNDLED_MODEL, sae_id)
    except NotFound:
        return None


def _run(
    jobs: Jobs, spec: JobSpec, bar: Bar, before: float, share: float, stopping: Callable[[], bool]
) -> None:
    view = _begin(jobs, spec)
    while True:
        bar.show(view, before + share * view.progress)
        if view.state in FINAL:
            break
        if stopping():
            raise Stopped
        time.sleep(POLL_S)
        view = jobs.get(view.id)
    if view.state != "done":
        raise _failure(view)


def _begin(jobs: Jobs, spec: JobSpec) -> JobView:
    """The job of an earlier start that was interrupted, or a new one."""
    view = jobs.submit(spec, f"first start: {spec.model_dump_json()}")
    if view.state in ("failed", "cancelled"):
        return jobs.retry(view.id)
    if view.state == "done":  # and yet it is missing: somebody deleted it
        return jobs.submit(spec)
    return view


def _failure(view: JobView) -> Problem:
    if view.error:
        return from_body(view.error)
    return Problem(f"The job {view.id} was {view.state}.")
