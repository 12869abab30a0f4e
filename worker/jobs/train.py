"""`train`: train SAEs on a registered model and register them."""

from pathlib import Path
from typing import Any

from app.contract.jobs import TrainSpec
from app.errors import Conflict, Invalid
from app.store import read
from app.store.records import ModelRecord
from worker.evidence_only import folder_of
from worker.fingerprint import fingerprint_sae
from worker.jobs.corpus import check_corpus, open_corpus
from worker.jobs.folders import copy_in
from worker.jobs.job import Job
from worker.jobs.load import register_sae
from worker.jobs.registered import find_sae, refuse_reserved
from worker.models import LanguageModel, describe_hooks, load_model
from worker.saes import load_sae
from worker.tokens import check_context
from worker.train.check import check
from worker.train.export import curve_of
from worker.train.run import train_all
from worker.train.settings import width
from worker.train.several import each, naming
from worker.train.sparsity import check_sparsity


def check_train(job: Job[TrainSpec]) -> None:
    """All that can be known without loading the model."""
    model = read.model(job.bench.shelf, job.spec.model)
    folder_of(model)
    specs = each(job.spec)
    for spec, trained in zip(specs, _folders(job), strict=True):
        refuse_reserved(spec.sae)
        _refuse_taken(job, spec.sae, trained)
        with naming(spec.sae, len(specs)):
            _check_one(spec, model)
    check_context(job.spec.context_size, model.context_size, model.id)
    check_corpus(job.bench.settings, job.spec.corpus)


def train_sae(job: Job[TrainSpec]) -> dict[str, Any]:
    """Train from the last checkpoint on, move the results into the data folder, register them."""
    spec, bench = job.spec, job.bench
    record = read.model(bench.shelf, spec.model)
    job.report("open", 0, 1)
    model = load_model(record.id, folder_of(record), device=bench.device, dtype=bench.dtype)
    check(spec, model)
    corpus = open_corpus(job, spec.corpus, model, model.prepend_bos)
    train_all(
        spec,
        model,
        corpus.sequences,
        checkpoint_dir=job.checkpoints / "steps",
        out_dirs=_folders(job),
        progress=job.report,
        checkpoint_seconds=bench.checkpoint_seconds,
    )
    results = [
        _register(job, one.sae, trained, model)
        for one, trained in zip(each(spec), _folders(job), strict=True)
    ]
    return {"model": record.id, **results[0], "also": results[1:]}


def _register(
    job: Job[TrainSpec], sae_id: str, trained: Path, model: LanguageModel
) -> dict[str, Any]:
    """Of one SAE; again after a crash it changes nothing."""
    bench = job.bench
    fingerprint = fingerprint_sae(trained)
    target = bench.settings.data_dir / "saes" / fingerprint[:16]
    copy_in(sorted(trained.iterdir()), target, job.report)
    dictionary = load_sae(sae_id, target, device=bench.device, model=model)
    registered = register_sae(bench, model.id, target, dictionary)
    return {
        "sae": sae_id,
        "fingerprint": fingerprint,
        "evaluation": registered.evaluation,
        "curve": curve_of(trained),
    }


def _folders(job: Job[TrainSpec]) -> list[Path]:
    """Where the finished SAEs are put; an id can be no name for a folder (`..`)."""
    return [job.checkpoints / "saes" / str(number) for number in range(1 + len(job.spec.also))]


def _check_one(spec: TrainSpec, model: ModelRecord) -> None:
    if spec.hook_name not in model.hook_points:
        raise Invalid(
            f"The model {model.id} has no hook point {spec.hook_name}; it has "
            f"{describe_hooks(list(model.hook_points))}.",
            hook_points=sorted(model.hook_points),
        )
    check_sparsity(spec, width(spec, model.hook_points[spec.hook_name]))


def _refuse_taken(job: Job[TrainSpec], sae_id: str, trained: Path) -> None:
    """An id in use is taken, unless this very job has registered it and then died."""
    stored = find_sae(job.bench.shelf, job.spec.model, sae_id)
    if stored is None:
        return
    if not trained.is_dir() or fingerprint_sae(trained) != stored.fingerprint:
        raise Conflict(
            f"The SAE id {stored.id} of the model {stored.model_id} is in use; choose another id, "
            "or delete that one first.",
            sae=stored.id,
        )
