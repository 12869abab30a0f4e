"""`train`: train an SAE on a registered model and register it."""

from pathlib import Path
from typing import Any

from app.contract.jobs import TrainSpec
from app.errors import Conflict, Invalid
from app.store import read
from worker.fingerprint import fingerprint_sae
from worker.jobs.corpus import check_corpus, open_corpus
from worker.jobs.folders import copy_in
from worker.jobs.job import Job
from worker.jobs.load import register_sae
from worker.jobs.registered import find_sae, refuse_reserved
from worker.models import describe_hooks, load_model
from worker.saes import load_sae
from worker.tokens import check_context
from worker.train.check import check
from worker.train.export import curve_of
from worker.train.run import train
from worker.train.settings import width
from worker.train.sparsity import check_sparsity


def check_train(job: Job[TrainSpec]) -> None:
    """All that can be known without loading the model."""
    spec, bench = job.spec, job.bench
    refuse_reserved(spec.sae)
    model = read.model(bench.shelf, spec.model)
    if spec.hook_name not in model.hook_points:
        raise Invalid(
            f"The model {model.id} has no hook point {spec.hook_name}; it has "
            f"{describe_hooks(list(model.hook_points))}.",
            hook_points=sorted(model.hook_points),
        )
    check_sparsity(spec, width(spec, model.hook_points[spec.hook_name]))
    _refuse_taken(job)
    check_context(spec.context_size, model.context_size, model.id)
    check_corpus(bench.settings, spec.corpus)


def train_sae(job: Job[TrainSpec]) -> dict[str, Any]:
    """Train from the last checkpoint on, move the result into the data folder, register it."""
    spec, bench = job.spec, job.bench
    record = read.model(bench.shelf, spec.model)
    job.report("open", 0, 1)
    model = load_model(record.id, Path(record.path), device=bench.device, dtype=bench.dtype)
    check(spec, model)
    corpus = open_corpus(job, spec.corpus, model, model.prepend_bos)
    trained = job.checkpoints / "sae"
    train(
        spec,
        model,
        corpus.sequences,
        checkpoint_dir=job.checkpoints / "steps",
        out_dir=trained,
        progress=job.report,
        checkpoint_seconds=bench.checkpoint_seconds,
    )
    fingerprint = fingerprint_sae(trained)
    target = bench.settings.data_dir / "saes" / fingerprint[:16]
    copy_in(sorted(trained.iterdir()), target, job.report)
    dictionary = load_sae(spec.sae, target, device=bench.device, model=model)
    registered = register_sae(bench, record.id, target, dictionary)
    return {
        "model": record.id,
        "sae": spec.sae,
        "fingerprint": fingerprint,
        "evaluation": registered.evaluation,
        "curve": curve_of(trained),
    }


def _refuse_taken(job: Job[TrainSpec]) -> None:
    """An id in use is taken, unless this very job has registered it and then died."""
    stored = find_sae(job.bench.shelf, job.spec.model, job.spec.sae)
    trained = job.checkpoints / "sae"
    if stored is None:
        return
    if not trained.is_dir() or fingerprint_sae(trained) != stored.fingerprint:
        raise Conflict(
            f"The SAE id {stored.id} of the model {stored.model_id} is in use; choose another id, "
            "or delete that one first.",
            sae=stored.id,
        )
