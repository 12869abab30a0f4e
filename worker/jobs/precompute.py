"""`precompute`: the evidence of some SAEs' features, in one pass over a corpus.

Each SAE gets a run of its own; all are served at once when everything is on the shelf. Ids of
runs derive from the job's and from all that decides the evidence, so a job that goes on finds the
ranges that it had committed, if it would still compute the same; and an SAE whose evidence is that
already is left alone. Over a longer corpus only the new text is run through the model, as far as what
earlier runs spilled is still there. The tokens begin with BOS if the SAEs were trained so, as those
of live requests do.
"""

import hashlib
import json
from functools import partial
from typing import Any

import torch

from app.contract.ids import is_neuron_source
from app.contract.jobs import PrecomputeSpec
from app.errors import Invalid
from app.store import read
from app.store.records import CorpusRecord, FeatureBatch
from app.store.splits import Source
from app.store.write import begin_run, committed_ranges, finish_runs, put_corpus, put_features
from worker.cluster.crew import Crew, crew
from worker.cluster.look import find_cluster
from worker.evidence_only import folder_of
from worker.jobs.away import waiting_out
from worker.jobs.corpus import StoredCorpus, check_corpus, open_corpus
from worker.jobs.job import Job
from worker.jobs.load import register_sae
from worker.jobs.materials import materials
from worker.jobs.split import split_neurons
from worker.models import LanguageModel, kind_of, load_model
from worker.precompute.kept import trim
from worker.precompute.report import Report
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.sae_folder import SaeFacts, check_sae_folder
from worker.saes import Dictionary, common_bos, load_sae, neuron_dictionary
from worker.tokens import check_context


def check_precompute(job: Job[PrecomputeSpec]) -> None:
    """All that can be known without loading the model."""
    spec, bench = job.spec, job.bench
    model = read.model(bench.shelf, spec.model)
    folder_of(model)
    if len(set(spec.saes)) < len(spec.saes):
        raise Invalid("An SAE is named twice in `saes`; name each once.")
    facts = [_facts(job, sae_id) for sae_id in spec.saes if not is_neuron_source(sae_id)]
    common_bos(one.prepend_bos for one in facts)
    for sae_id in filter(is_neuron_source, spec.saes):
        if f"blocks.{_layer(sae_id)}.mlp.hook_post" not in model.hook_points:
            raise Invalid(f"The model {model.id} has no neurons in layer {_layer(sae_id)}.")
    check_context(spec.context_size, model.context_size, model.id)
    check_corpus(bench.settings, spec.corpus)
    find_cluster(bench.settings)


def precompute_features(job: Job[PrecomputeSpec]) -> dict[str, Any]:
    """Run the pass from the last committed unit on, then switch all SAEs to the new evidence."""
    cluster = find_cluster(job.bench.settings)
    model = _open_model(job)
    opened = [_open(job, model, sae_id) for sae_id in job.spec.saes]
    prepend_bos = common_bos(one.prepend_bos for one in opened)
    corpus = open_corpus(job, job.spec.corpus, model, prepend_bos)
    settings = Settings.on(torch.device(cluster.device) if cluster else model.device)
    record = _record(settings, model, cluster.kind if cluster else kind_of(model.device))
    served = _served(job, opened, corpus, record)
    missing = [one for one in opened if one.id not in served]
    new = {}
    if missing:
        with crew(cluster, partial(materials, job, model, missing, corpus)) as hands:
            new = _compute(job, model, missing, corpus, settings, record, hands)
    split_neurons(job, model, opened, corpus, new)
    statistics = {one.run_id: one.statistics for one in new.values()}
    waiting_out(lambda: finish_runs(job.bench.shelf, statistics))
    trim(job.bench.settings.spill_dir, job.bench.settings.spill_kept_mb * 10**6)
    # Jobs that ran beside this one have not seen its evidence, nor this one theirs.
    done = split_neurons(job, model, opened, corpus, {})
    runs = served | {sae_id: one.run_id for sae_id, one in new.items()}
    return _result(job, corpus, runs) | {"split": done.split, "not_split": done.not_split}


def _compute(
    job: Job[PrecomputeSpec],
    model: LanguageModel,
    dictionaries: list[Dictionary],
    corpus: StoredCorpus,
    settings: Settings,
    record: dict[str, Any],
    hands: Crew | None,
) -> dict[str, Source]:
    """Commit all evidence of some dictionaries to runs of their own, by dictionary."""
    shelf = job.bench.shelf
    _put_corpus(job, corpus)
    runs = {one.id: _begin(job, one, corpus, record) for one in dictionaries}

    def on_range(sae_id: str, batch: FeatureBatch) -> None:
        waiting_out(lambda: put_features(shelf, runs[sae_id], batch))

    report = precompute(
        model,
        dictionaries,
        corpus.sequences,
        spill_dir=job.bench.settings.spill_dir,
        settings=settings,
        on_progress=job.report,
        on_range=on_range,
        done_ranges={sae_id: committed_ranges(shelf, run) for sae_id, run in runs.items()},
        crew=hands,
    )
    return {
        one.id: Source(
            one.id, one.architecture, "", runs[one.id], corpus.id, _statistics(report, one.id)
        )
        for one in dictionaries
    }


def _result(job: Job[PrecomputeSpec], corpus: StoredCorpus, runs: dict[str, str]) -> dict[str, Any]:
    return {
        "model": job.spec.model,
        "runs": runs,
        "unchanged": [
            name for name, run in runs.items() if not run.startswith(f"{job.id}.{name}.")
        ],
        "corpus": corpus.id,
    }


def _served(
    job: Job[PrecomputeSpec],
    dictionaries: list[Dictionary],
    corpus: StoredCorpus,
    settings: dict[str, Any],
) -> dict[str, str]:
    """Served runs with just the evidence that is asked for, by SAE: of other jobs, or of this one
    before it was interrupted."""
    found = {}
    for one in dictionaries:
        served = read.sae(job.bench.shelf, job.spec.model, one.id).run_id or ""
        if served.rpartition(".")[2] == _digest(one, corpus, settings):
            found[one.id] = served
    return found


def _facts(job: Job[PrecomputeSpec], sae_id: str) -> SaeFacts:
    record = read.sae(job.bench.shelf, job.spec.model, sae_id)
    return check_sae_folder(folder_of(record))


def _open_model(job: Job[PrecomputeSpec]) -> LanguageModel:
    bench = job.bench
    job.report("open", 0, 1)
    record = read.model(bench.shelf, job.spec.model)
    return load_model(record.id, folder_of(record), device=bench.device, dtype=bench.dtype)


def _open(job: Job[PrecomputeSpec], model: LanguageModel, sae_id: str) -> Dictionary:
    """A registered SAE, or a layer's neurons, which this registers."""
    bench = job.bench
    if is_neuron_source(sae_id):
        dictionary = neuron_dictionary(model, _layer(sae_id))
        register_sae(bench, model.id, None, dictionary)
        return dictionary
    record = read.sae(bench.shelf, model.id, sae_id)
    return load_sae(sae_id, folder_of(record), device=bench.device, model=model)


def _put_corpus(job: Job[PrecomputeSpec], corpus: StoredCorpus) -> None:
    sequences = corpus.sequences
    record = CorpusRecord(
        id=corpus.id,
        model_id=job.spec.model,
        source=corpus.source,
        n_sequences=len(sequences),
        n_tokens=len(sequences.flat),
        context_size=corpus.context_size,
        prepend_bos=corpus.prepend_bos,
    )
    put_corpus(job.bench.shelf, record, sequences.flat, sequences.offsets)


def _record(settings: Settings, model: LanguageModel, kind: str) -> dict[str, Any]:
    """Everything that decides the evidence besides dictionary and corpus."""
    return {
        **settings.record(),
        "model": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": kind,
    }


def _begin(
    job: Job[PrecomputeSpec],
    dictionary: Dictionary,
    corpus: StoredCorpus,
    settings: dict[str, Any],
) -> str:
    """Begin the job's run for a dictionary, or go on with it.

    Its id says all that decides the evidence, so that a job that goes on with another number
    format or on another kind of device begins a new run, and none mixes the two.
    """
    run_id = f"{job.id}.{dictionary.id}.{_digest(dictionary, corpus, settings)}"
    begin_run(job.bench.shelf, job.spec.model, dictionary.id, corpus.id, settings, run_id)
    return run_id


def _digest(dictionary: Dictionary, corpus: StoredCorpus, settings: dict[str, Any]) -> str:
    """Of all that decides a dictionary's evidence."""
    computed = json.dumps([dictionary.fingerprint, corpus.id, settings], sort_keys=True)
    return hashlib.sha256(computed.encode()).hexdigest()[:12]


def _statistics(report: Report, sae_id: str) -> dict[str, float]:
    entries = report.entries[sae_id]
    return {
        "tokens": report.tokens,
        "active": entries,
        "l0": entries / max(report.tokens, 1),
        "coactive_tokens": report.sampled[sae_id],
    }


def _layer(sae_id: str) -> int:
    return int(sae_id.partition("-")[0])
