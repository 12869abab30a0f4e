"""Measures the shipped SAEs as `saescope evaluate` does by default, and writes what it finds into their
folders, so that it is served without a job.

    python -m worker.demo.evaluate_saes
"""

import json

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.evaluation import FullEvaluation
from app.contract.jobs import HELD_OUT, EvaluateSpec
from worker.demo.generator import CORPUS_START, documents
from worker.demo.loss import SHIPPED
from worker.demo.recovery import recover, with_concepts
from worker.evaluate import evaluate
from worker.jobs.corpus import source_of
from worker.jobs.summary import NAME
from worker.models import LanguageModel, load_model
from worker.saes import load_sae
from worker.tokens import tokenize_corpus
from worker.train.order import beginning

SAES = SHIPPED.parent / "saes"


def measure(model: LanguageModel, sae: str) -> FullEvaluation:
    """The evaluation of a shipped SAE on the text that is held out by default."""
    spec = EvaluateSpec(model=BUNDLED_MODEL, sae=sae)
    texts = list(documents(HELD_OUT.seed, CORPUS_START, HELD_OUT.documents))
    dictionary = load_sae(sae, SAES / sae, model=model)
    sequences = tokenize_corpus(
        model, [d.text for d in texts], model.context_size, prepend_bos=dictionary.prepend_bos
    )
    first = beginning(sequences, spec.tokens)
    numbers = evaluate(model, dictionary, first, source_of(HELD_OUT))
    return with_concepts(numbers, recover(model, dictionary, first, texts))


def main() -> None:
    model = load_model(BUNDLED_MODEL, SHIPPED)
    for sae in BUNDLED_SAES:
        found = measure(model, sae)
        told = json.loads((SAES / sae / NAME).read_text())
        told["evaluation"] = found.model_dump()
        (SAES / sae / NAME).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
        print(sae, found.model_dump_json(exclude={"concepts"}))


if __name__ == "__main__":
    main()
