"""`load`: register a model, or an SAE of a registered model, from files or from SAELens' directory.

The files are copied into the data folder under their fingerprint. What is registered is the copy,
after it was loaded once for real. SAEs in other formats are converted first.
"""

from pathlib import Path
from typing import Any

from app.contract.jobs import LoadSpec
from app.errors import Invalid
from app.store import read
from app.store.records import ModelRecord, SaeRecord
from app.store.write import put_model, put_sae
from worker.evidence_only import folder_of
from worker.fingerprint import SAE_FILES, fingerprint_model, fingerprint_sae, model_files
from worker.foreign.parts import Foreign
from worker.jobs.folders import copy_in
from worker.jobs.job import Bench, Job
from worker.jobs.paths import model_folder
from worker.jobs.registered import find_model, find_sae, refuse_other, refuse_reserved
from worker.jobs.sources import look_at, refuse_hooks, refuse_pretrained, saelens_folder
from worker.jobs.summary import NAME, Summary, read_summary
from worker.models import LanguageModel, check_model_folder, load_model, vocabulary
from worker.sae_folder import SaeFacts, check_sae_folder
from worker.saes import Dictionary, load_sae

MODEL_EXTRAS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
"""Carried along with a model: they name its licence."""
SAE_EXTRAS = (NAME, "sparsity.safetensors", "curve.json", "LICENSE")
"""Carried along with an SAE: what was measured when it was trained."""


def check_load(job: Job[LoadSpec]) -> None:
    """All that can be wrong with the files, the ids and the widths."""
    spec, bench = job.spec, job.bench
    if spec.sae is None:
        refuse_pretrained(spec)
        refuse_hooks(spec)
        folder = model_folder(bench.settings, spec.path)
        check_model_folder(folder)
        stored = find_model(bench.shelf, spec.model)
        refuse_other("model", stored, fingerprint_model(folder))
        return
    refuse_reserved(spec.sae)
    model = read.model(bench.shelf, spec.model)
    folder_of(model)
    found = look_at(job)
    if isinstance(found, Path):
        _check_sae(job, spec.sae, found)
    elif found:
        _check_fits(model, found)


def load(job: Job[LoadSpec]) -> dict[str, Any]:
    """Copy, load once, register."""
    return _load_model(job) if job.spec.sae is None else _load_sae(job, job.spec.sae)


def register_sae(
    bench: Bench, model_id: str, folder: Path | None, dictionary: Dictionary
) -> SaeRecord:
    """Put a loaded SAE on the shelf, with what `saescope.json` in its folder says of it.

    Neurons have no folder.
    """
    told = read_summary(folder) if folder else Summary()
    record = SaeRecord(
        model_id=model_id,
        id=dictionary.id,
        fingerprint=dictionary.fingerprint,
        path=str(folder or ""),
        hook_name=dictionary.hook_name,
        layer=dictionary.layer,
        architecture=dictionary.architecture,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        steerable=dictionary.steerable,
        steerable_reason=dictionary.steerable_reason,
        evaluation=told.evaluation.model_dump(),
        provenance=told.provenance,
    )
    put_sae(bench.shelf, record)
    return record


def _load_model(job: Job[LoadSpec]) -> dict[str, Any]:
    source = model_folder(job.bench.settings, job.spec.path)
    fingerprint = fingerprint_model(source)
    files = [*model_files(source), *(source / name for name in MODEL_EXTRAS)]
    target = job.bench.settings.data_dir / "models" / fingerprint[:16]
    copy_in(files, target, job.report)
    _check_copy(fingerprint_model(target), fingerprint)
    job.report("open", 0, 1)
    model = load_model(job.spec.model, target, device=job.bench.device, dtype=job.bench.dtype)
    record = model_record(model, fingerprint, job.spec.path)
    put_model(job.bench.shelf, record, vocabulary(model))
    return {"model": record.id, "fingerprint": fingerprint}


def model_record(model: LanguageModel, fingerprint: str, source: str) -> ModelRecord:
    """What the shelf keeps of a model."""
    return ModelRecord(
        id=model.id,
        fingerprint=fingerprint,
        source=source,
        path=str(model.path),
        n_layers=model.n_layers,
        d_model=model.d_model,
        d_mlp=model.d_mlp,
        vocab_size=model.vocab_size,
        context_size=model.context_size,
        prepend_bos=model.prepend_bos,
        hook_points=model.hook_points,
        has_chat_template=model.has_chat_template,
        license=model.facts.license,
    )


def _load_sae(job: Job[LoadSpec], sae_id: str) -> dict[str, Any]:
    bench = job.bench
    source = saelens_folder(job)
    fingerprint = _check_sae(job, sae_id, source)
    files = [source / name for name in (*SAE_FILES, *SAE_EXTRAS)]
    target = bench.settings.data_dir / "saes" / fingerprint[:16]
    copy_in(files, target, job.report)
    _check_copy(fingerprint_sae(target), fingerprint)
    job.report("open", 0, 1)
    record = read.model(bench.shelf, job.spec.model)
    model = load_model(record.id, folder_of(record), device=bench.device, dtype=bench.dtype)
    dictionary = load_sae(sae_id, target, device=bench.device, model=model)
    register_sae(bench, record.id, target, dictionary)
    return {"model": record.id, "sae": sae_id, "fingerprint": fingerprint}


def _check_sae(job: Job[LoadSpec], sae_id: str, folder: Path) -> str:
    """The fingerprint of a SAELens folder that can be loaded as asked."""
    shelf, model_id = job.bench.shelf, job.spec.model
    _check_fits(read.model(shelf, model_id), check_sae_folder(folder))
    read_summary(folder)
    fingerprint = fingerprint_sae(folder)
    refuse_other("SAE", find_sae(shelf, model_id, sae_id), fingerprint)
    return fingerprint


def _check_fits(model: ModelRecord, facts: SaeFacts | Foreign) -> None:
    width = model.hook_points.get(facts.hook_name)
    if width is None:
        raise Invalid(
            f"The SAE reads at {facts.hook_name}, which the model {model.id} does not have; load "
            "it under the model that it was trained on.",
            hook_points=sorted(model.hook_points),
        )
    if width != facts.d_in:
        raise Invalid(
            f"The SAE has d_in {facts.d_in}, but {facts.hook_name} of the model {model.id} is "
            f"{width} wide; load it under the model that it was trained on."
        )


def _check_copy(copied: str, fingerprint: str) -> None:
    if copied != fingerprint:
        raise Invalid("The files were changed while they were copied; submit the job again.")
