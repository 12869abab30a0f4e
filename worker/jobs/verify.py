"""`verify`: compute a random sample of an SAE's stored examples again, and tell the largest difference.

It is computed as the evidence was: from the tokens on the shelf, in the number format of the run. In
float32 it agrees when no difference is more than `TOLERANCE` of its feature's largest activation. In
bfloat16 a batch of other texts changes the third digit: differences are told, and nothing is claimed.
"""

import math
from typing import Any

import torch

from app.contract.ids import is_neuron_source
from app.contract.jobs import VerifySpec
from app.errors import Conflict
from app.store import read, served
from app.store.records import ModelRecord, SaeRecord
from app.store.served import ServedRun
from worker.evidence_only import folder_of
from worker.fingerprint import fingerprint_model, fingerprint_neurons, fingerprint_sae
from worker.jobs.job import Job
from worker.jobs.registered import find_sae
from worker.jobs.sample import draw
from worker.model_folder import check_model_folder
from worker.models import LanguageModel, load_model
from worker.sae_folder import check_sae_folder
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.verify import TOLERANCE, Comparison, compare

EXACT = ("float32",)
"""Number formats in which the same activations are promised, whatever batch they come from."""
NOTE = (
    "The evidence was computed in bfloat16, whose roundings differ from batch to batch, so that no "
    "agreement can be claimed; precompute with SAESCOPE_DTYPE=float32 for evidence that can be "
    "verified."
)


def check_verify(job: Job[VerifySpec]) -> None:
    """Whether there is evidence, and the very files that it was computed with."""
    _look_up(job)


def verify_evidence(job: Job[VerifySpec]) -> dict[str, Any]:
    """Draw, compute, compare."""
    model_record, sae, run = _look_up(job)
    dtype = run.settings.get("dtype", job.bench.settings.dtype)
    job.report("open", 0, 1)
    model = load_model(
        model_record.id,
        folder_of(model_record),
        device=job.bench.device,
        dtype=getattr(torch, dtype),
    )
    dictionary = _open(job, model, sae)
    examples = draw(job.bench.shelf, run, job.spec.examples, job.spec.seed)
    if not examples:
        raise Conflict(
            f"No feature of '{sae.id}' was active in its corpus, so there is no example to verify; "
            "precompute it on other text."
        )
    compared = compare(
        model,
        dictionary,
        examples,
        lambda numbers: run.tokens.sequences(job.bench.shelf.read, numbers),
        job.report,
        TOLERANCE if dtype in EXACT else math.inf,
    )
    return _result(job, run, dtype, compared)


def _look_up(job: Job[VerifySpec]) -> tuple[ModelRecord, SaeRecord, ServedRun]:
    """Model, SAE and served run.

    Raises:
        NotFound: there is no such model or SAE.
        Invalid: the files cannot be loaded.
        Conflict: there is no evidence, or the files are not those that it was computed with.
    """
    spec, shelf = job.spec, job.bench.shelf
    model, sae = read.model(shelf, spec.model), _with_evidence(job)
    run = served.run(shelf, spec.model, spec.sae)
    check_model_folder(folder_of(model))
    now = fingerprint_model(folder_of(model))
    _refuse_changed("model", model, run.settings.get("model", model.fingerprint), now)
    if not is_neuron_source(sae.id):
        check_sae_folder(folder_of(sae))
        now = fingerprint_sae(folder_of(sae))
    else:
        now = fingerprint_neurons(now, sae.layer)
    _refuse_changed("SAE", sae, run.sae_fingerprint, now)
    return model, sae, run


def _with_evidence(job: Job[VerifySpec]) -> SaeRecord:
    """Neurons are registered when their evidence is computed."""
    spec, shelf = job.spec, job.bench.shelf
    find = find_sae if is_neuron_source(spec.sae) else read.sae
    sae = find(shelf, spec.model, spec.sae)
    if sae is None or sae.run_id is None:
        raise Conflict(
            f"'{spec.sae}' of model '{spec.model}' has no evidence to verify; run `saescope precompute "
            f"{spec.model} {spec.sae}` first."
        )
    return sae


def _refuse_changed(what: str, record: ModelRecord | SaeRecord, then: str, now: str) -> None:
    if then != now:
        raise Conflict(
            f"The {what} '{record.id}' in {record.path} is not what its evidence was computed with: "
            "the files have changed. Bring the old ones back, or delete it, load it again and "
            "precompute.",
            stored_fingerprint=then,
            given_fingerprint=now,
        )


def _open(job: Job[VerifySpec], model: LanguageModel, sae: SaeRecord) -> Dictionary:
    if is_neuron_source(sae.id):
        return neuron_dictionary(model, sae.layer)
    return load_sae(sae.id, folder_of(sae), device=job.bench.device, model=model)


def _result(
    job: Job[VerifySpec], run: ServedRun, dtype: str, compared: Comparison
) -> dict[str, Any]:
    exact, worst = dtype in EXACT, compared.worst
    return {
        "model": job.spec.model,
        "sae": job.spec.sae,
        "run": run.id,
        "corpus": run.corpus_id,
        "dtype": dtype,
        "examples": compared.examples,
        "values": compared.values,
        "at_edge": compared.at_edge,
        "largest_difference": _number(compared.largest_difference),
        "largest_relative": _number(compared.largest_relative),
        "worst": worst and {name: _number(value) for name, value in worst._asdict().items()},
        "tolerance": TOLERANCE if exact else None,
        "agrees": compared.largest_relative <= TOLERANCE if exact else None,
        "note": None if exact else NOTE,
    }


def _number(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None
