"""`verify`: computes a random sample of an SAE's stored examples anew, and says how far they are off.

The sample is drawn by the job's seed: features in random order, of each that has examples one window
at random, and again from the start when that is not enough.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.contract.ids import is_neuron_source
from app.contract.jobs import VerifySpec
from app.errors import Conflict
from app.store import lookup, read
from app.store.records import Feature, SaeRecord
from worker.jobs.job import Job
from worker.models import LanguageModel, load_model
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.verify import TOLERANCE, Stored, compare

_ROUNDS = 45
"""Examples that a feature has, at most."""


def check_verify(job: Job[VerifySpec]) -> None:
    """Whether there is evidence to verify."""
    _with_evidence(job)


def verify_evidence(job: Job[VerifySpec]) -> dict[str, Any]:
    """Sample, compute, compare."""
    sae = _with_evidence(job)
    dtype = sae.provenance["settings"]["dtype"]
    model = _open_model(job, dtype)
    dictionary = _open(job, model, sae)
    examples = list(islice(_examples(job, sae), job.spec.examples))
    compared = compare(model, dictionary, examples, job.report)
    exact = dtype == "float32"
    return {
        "model": job.spec.model,
        "sae": sae.id,
        "run": sae.run_id,
        "corpus": sae.provenance["corpus"],
        **asdict(compared),
        "tolerance": TOLERANCE if exact else None,
        # bfloat16 rounds otherwise in every batch: how far it is off is told, and not judged.
        "agrees": compared.largest_relative <= TOLERANCE if exact else None,
    }


def _with_evidence(job: Job[VerifySpec]) -> SaeRecord:
    sae = read.sae(job.bench.shelf, job.spec.model, job.spec.sae)
    if sae.run_id is None:
        raise Conflict(
            f"SAE '{sae.id}' of model '{sae.model_id}' has no evidence to verify; run "
            f"`saescope precompute {sae.model_id} {sae.id}` first."
        )
    return sae


def _open_model(job: Job[VerifySpec], dtype: str) -> LanguageModel:
    bench = job.bench
    job.report("open", 0, 1)
    record = read.model(bench.shelf, job.spec.model)
    path = Path(record.path)
    model = load_model(record.id, path, device=bench.device, dtype=getattr(torch, dtype))
    _unchanged("model", record.id, model.fingerprint, record.fingerprint)
    return model


def _open(job: Job[VerifySpec], model: LanguageModel, sae: SaeRecord) -> Dictionary:
    if is_neuron_source(sae.id):
        return neuron_dictionary(model, sae.layer)
    opened = load_sae(sae.id, Path(sae.path), device=job.bench.device, model=model)
    _unchanged("SAE", sae.id, opened.fingerprint, sae.provenance["sae"])
    return opened


def _unchanged(what: str, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise Conflict(
            f"The files of the {what} {name} have changed since its evidence was computed; load it "
            "and precompute again."
        )


def _examples(job: Job[VerifySpec], sae: SaeRecord) -> Iterator[Stored]:
    random = np.random.default_rng(job.spec.seed)
    order = random.permutation(sae.d_sae)
    for _ in range(_ROUNDS):
        found = False
        for index in order.tolist():
            feature = lookup.feature(job.bench.shelf, sae.model_id, sae.id, index)
            if feature.run_id != sae.run_id:
                raise Conflict(f"The evidence of '{sae.id}' was replaced meanwhile; verify again.")
            if len(feature.windows):
                found = True
                yield _stored(job, feature, int(random.integers(len(feature.windows))))
        if not found:
            return


def _stored(job: Job[VerifySpec], feature: Feature, example: int) -> Stored:
    windows = feature.windows
    sequence, offset = windows.sequence[example], windows.offset[example]
    length = windows.length[example]
    tokens = read.sequence(job.bench.shelf, feature.run_id, sequence, offset + length)
    values = windows.values[example, :length]
    return Stored(feature.index, sequence, offset, tokens, values, feature.max_activation)
