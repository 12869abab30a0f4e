"""Imports and exports in a real worker: killed, started again, and with evidence only."""

from pathlib import Path

import pytest

from app.contract.jobs import (
    CorpusBundled,
    EvaluateSpec,
    ExportSpec,
    ImportSpec,
    JobSpec,
    LoadSpec,
    PrecomputeSpec,
    TrainSpec,
    VerifySpec,
)
from app.store import read
from tests.jobs.place import Place, idle_on_sqlite
from tests.neuronpedia import made

pytestmark = [pytest.mark.xdist_group("import"), pytest.mark.timeout(900)]


def test_a_killed_import_goes_on_and_its_export_is_the_same(idle: Place) -> None:
    given = made.write(idle.folder / "given", list(range(1_500)), per_batch=300)
    idle.start_worker()
    job = idle.jobs.submit(ImportSpec(path="given")).id
    idle.wait(job, lambda view: view.progress > 0.5)
    idle.kill_worker()
    assert read.sae(idle.shelf, made.MODEL, made.SOURCE).status == "registered"
    idle.start_worker()
    done = idle.wait(job)
    assert done.state == "done", done.error
    assert done.result and done.result["features"] == 1_500
    exported = idle.run(ExportSpec(model=made.MODEL, sae=made.SOURCE))
    assert exported.state == "done" and exported.result, exported.error
    assert exported.result["files"] == {"features": 2, "activations": 2, "explanations": 2}
    assert made.contents(Path(exported.result["path"])) == made.contents(given)


ONLY: list[JobSpec] = [
    TrainSpec(model=made.MODEL, sae="7-x", hook_name="blocks.7.hook_resid_pre"),
    PrecomputeSpec(model=made.MODEL, saes=[made.SOURCE], corpus=CorpusBundled(documents=10)),
    EvaluateSpec(model=made.MODEL, sae=made.SOURCE),
    VerifySpec(model=made.MODEL, sae=made.SOURCE),
    LoadSpec(model=made.MODEL, sae="7-x", path="bundled:storyworld/2-res-topk"),
    LoadSpec(model=made.MODEL, path="bundled:storyworld"),
]


@idle_on_sqlite
def test_jobs_that_need_files_say_that_only_evidence_is_there(idle: Place) -> None:
    made.write(idle.folder / "given", [0, 1])
    idle.start_worker()
    assert idle.run(ImportSpec(path="given")).state == "done"
    for spec in ONLY:
        failed = idle.run(spec)
        assert failed.error and failed.error["status"] == 409, (spec, failed.error)
    bundled = idle.run(ImportSpec(path="bundled:evidence", sae="2-imported"))
    assert bundled.state == "done", bundled.error
    assert bundled.result and bundled.result["features"] == 16
    broken = idle.run(ImportSpec(path="bundled:other"))
    assert broken.error and "bundled is bundled:evidence" in broken.error["detail"]
