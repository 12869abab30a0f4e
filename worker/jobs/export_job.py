"""`export`: the evidence of an SAE as files in Neuronpedia's layout.

They are written into a folder beside the one asked for, which gets its name when all are there. A
job that was stopped goes on behind its last batch, as long as the same evidence is served. A folder
of the data folder is named after the evidence, so what is there by that name need not be written
again.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from app.contract.jobs import ExportSpec
from app.rows.about import about
from app.rows.page import Names
from app.store import find, imports, read
from app.store.records import SaeRecord
from worker.durable import sync
from worker.jobs.job import Job
from worker.jobs.paths import new_folder
from worker.neuronpedia import export
from worker.neuronpedia.export import State


def check_export(job: Job[ExportSpec]) -> None:
    """That there is evidence, and nothing where it goes."""
    path = _path(job, _served(job))
    if job.spec.path:
        new_folder(job.bench.settings, path)


def export_evidence(job: Job[ExportSpec]) -> dict[str, Any]:
    """Write from the last batch on, then give the folder its name."""
    note = job.checkpoints / "export.json"
    sae, state = _served(job), export.load(note)
    path = _path(job, sae)
    target = Path(path).expanduser().resolve()
    partial = target.with_name(f".{target.name}.{job.id}.partial")
    renamed = state and state.whole and state.run == sae.run_id and not partial.exists()
    if target.is_dir() and (job.spec.path is None or renamed):
        return _result(job, sae, path)
    new_folder(job.bench.settings, path)
    if state is None or state.run != sae.run_id or not partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        state = State(sae.run_id or "")
    export.clear(partial)
    _write(job, sae, partial, state, note)
    state.whole = True
    state.save(note)
    new_folder(job.bench.settings, path)
    partial.rename(target)
    sync(target.parent)
    return _result(job, sae, path)


def _write(job: Job[ExportSpec], sae: SaeRecord, folder: Path, state: State, note: Path) -> None:
    shelf, names = job.bench.shelf, Names(sae.model_id, sae.id, sae.hook_name)
    total = imports.count(shelf, state.run)

    def tick() -> None:
        job.report("features", state.features, total)

    while export.write_batch(shelf, names, folder, state, tick):
        for path in folder.iterdir():
            sync(path)
        state.save(note)
        tick()
    export.write_about(folder, about(read.model(shelf, sae.model_id), sae))
    sync(folder)


def _served(job: Job[ExportSpec]) -> SaeRecord:
    """The SAE. NotFound when it has no evidence."""
    sae = read.sae(job.bench.shelf, job.spec.model, job.spec.sae)
    if sae.run_id is None:
        raise find.no_evidence(sae.model_id, sae.id)
    return sae


def _path(job: Job[ExportSpec], sae: SaeRecord) -> str:
    """Of the folder that is asked for."""
    if job.spec.path:
        return job.spec.path
    of = hashlib.sha256((sae.run_id or "").encode()).hexdigest()[:8]
    return str(job.bench.settings.data_dir / "exports" / sae.model_id / f"{sae.id}-{of}")


def _result(job: Job[ExportSpec], sae: SaeRecord, path: str) -> dict[str, Any]:
    run = sae.run_id or ""
    return {
        "model": sae.model_id,
        "sae": sae.id,
        "run": run,
        "path": path,
        "features": imports.count(job.bench.shelf, run),
        "files": {kind: len(list(Path(path, kind).glob("*"))) for kind in export.KINDS},
    }
