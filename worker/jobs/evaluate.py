"""`evaluate`: measure how well an SAE stands for its hook point, on some text, and where the text's
true concepts are known how well its features tell them; served with it."""

from functools import partial
from typing import Any

from app.contract.evaluation import ConceptScore
from app.contract.ids import is_neuron_source
from app.contract.jobs import CorpusBundled, EvaluateSpec
from app.errors import Invalid
from app.store import read
from app.store.write import set_evaluation
from worker.cluster.crew import crew
from worker.cluster.look import find_cluster
from worker.demo.generator import CORPUS_START, documents
from worker.demo.loss import SHIPPED
from worker.demo.recovery import recover, with_concepts
from worker.dictionary import Dictionary
from worker.evaluate import evaluate
from worker.evidence_only import folder_of
from worker.fingerprint import fingerprint_model
from worker.jobs.corpus import check_corpus, open_corpus
from worker.jobs.job import Job
from worker.jobs.materials import materials
from worker.model_folder import check_model_folder
from worker.models import LanguageModel, load_model
from worker.sae_folder import check_sae_folder
from worker.saes import load_sae
from worker.tokens import Sequences, check_context
from worker.train.order import beginning


def check_evaluate(job: Job[EvaluateSpec]) -> None:
    """All that can be known without loading the model."""
    spec, bench = job.spec, job.bench
    model = read.model(bench.shelf, spec.model)
    if is_neuron_source(spec.sae):
        raise Invalid(
            f"{spec.sae} are the model's own neurons, which reconstruct themselves; name an SAE."
        )
    check_model_folder(folder_of(model))
    check_sae_folder(folder_of(read.sae(bench.shelf, spec.model, spec.sae)))
    check_context(spec.context_size, model.context_size, model.id)
    check_corpus(bench.settings, spec.corpus)
    find_cluster(bench.settings)


def evaluate_sae(job: Job[EvaluateSpec]) -> dict[str, Any]:
    """Load both, measure, and put the numbers in the place of those that were there."""
    spec, bench = job.spec, job.bench
    cluster = find_cluster(bench.settings)
    job.report("open", 0, 1)
    record = read.model(bench.shelf, spec.model)
    model = load_model(record.id, folder_of(record), device=bench.device, dtype=bench.dtype)
    folder = folder_of(read.sae(bench.shelf, spec.model, spec.sae))
    dictionary = load_sae(spec.sae, folder, device=bench.device, model=model)
    corpus = open_corpus(job, spec.corpus, model, dictionary.prepend_bos)
    measured = beginning(corpus.sequences, spec.tokens)
    with crew(cluster, partial(materials, job, model, [dictionary], corpus)) as hands:
        numbers = evaluate(
            model, dictionary, measured, corpus.source, progress=job.report, crew=hands
        )
    concepts = _concepts(job, record.fingerprint, model, dictionary, measured)
    found = with_concepts(numbers, concepts).model_dump()
    set_evaluation(bench.shelf, spec.model, spec.sae, dictionary.fingerprint, found)
    return {
        "model": spec.model,
        "sae": spec.sae,
        "corpus": corpus.id,
        "tokens": len(measured.flat),
        "evaluation": found,
    }


def _concepts(
    job: Job[EvaluateSpec],
    fingerprint: str,
    model: LanguageModel,
    dictionary: Dictionary,
    measured: Sequences,
) -> list[ConceptScore]:
    """Rows of concept recovery; none but for the bundled model on its generator's text."""
    corpus = job.spec.corpus
    if not isinstance(corpus, CorpusBundled) or fingerprint != fingerprint_model(SHIPPED):
        return []
    texts = documents(corpus.seed, CORPUS_START, corpus.documents)
    return recover(model, dictionary, measured, texts, job.report)
