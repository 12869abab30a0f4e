"""Concept recovery: how well an SAE's features tell the concepts of storyworld's text.

1. Label every token with the concepts that the generator put there; split the documents in two.
2. Choose, for each concept, the best cut (`worker.demo.rules`) on any feature, on any neuron of any
   layer, on any of as many random directions at the SAE's hook as it has features, and the best set
   of token ids: feature, sign and threshold by the F1 on one half of the documents.
3. Score each of the four on the other half.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float

from app.contract.evaluation import (
    ConceptRecovery,
    ConceptScore,
    Evaluation,
    FullEvaluation,
    MeanScore,
)
from worker.demo.columns import Blocks, directions, features, neurons, states
from worker.demo.concepts import CONCEPTS
from worker.demo.probe import Labelled, label_tokens
from worker.demo.rules import BestCuts, Question, questions, token_f1
from worker.demo.scribe import Document
from worker.dictionary import Dictionary
from worker.models import LanguageModel
from worker.progress import Progress, silent
from worker.tokens import Sequences
from worker.train.order import beginning

MAX_TOKENS = 200_000
"""All neurons of a layer are in memory on so many tokens, and every column is sorted."""


@torch.inference_mode()
def recover(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    documents: Iterable[Document],
    progress: Progress = silent,
) -> list[ConceptScore]:
    """A row for each concept that occurs in both halves, in the order of `CONCEPTS`.

    `sequences` are the tokens of the first of `documents`; what is beyond `MAX_TOKENS` of them is left
    out. Reports phase `concepts` in columns.
    """
    sequences = beginning(sequences, MAX_TOKENS)
    labelled = label(model, sequences, documents)
    x = states(model, sequences, dictionary.hook_name)
    asked = questions(labelled)
    step = _Steps(progress, 2 * dictionary.d_sae + model.n_layers * model.d_mlp)
    by_feature = _best(asked, features(dictionary, x), step)
    by_neuron = _best(asked, neurons(model, sequences), step)
    by_chance = _best(asked, directions(x, dictionary.d_sae), step)
    rows = {
        concept: row
        for bests in zip(by_feature, by_neuron, by_chance, strict=True)
        for concept, row in _rows(*bests, token_f1(bests[0].question, labelled.ids))
    }
    return [rows[concept] for concept in sorted(rows)]


def with_concepts(evaluation: Evaluation, rows: list[ConceptScore]) -> FullEvaluation:
    """An evaluation with its table of concepts and the means of that."""
    numbers = evaluation.model_dump() | {"concept_recovery": summary(rows), "concepts": rows}
    return FullEvaluation.model_validate(numbers)


def summary(rows: list[ConceptScore]) -> ConceptRecovery | None:
    """The means; None where there is no concept."""
    whole = _mean(rows)
    return whole and ConceptRecovery(contextual=_mean([r for r in rows if r.contextual]), all=whole)


def label(model: LanguageModel, sequences: Sequences, documents: Iterable[Document]) -> Labelled:
    """The labels of the tokens of `sequences` that are not special, in the order of the text."""
    ids = sequences.flat[~model.is_special[sequences.flat]]
    parts, labelled = [], 0
    for number, document in enumerate(documents):
        part = label_tokens(model.tokenizer, [document])
        parts.append(part._replace(document=part.document + number))
        labelled += len(part.ids)
        if labelled >= len(ids):
            break
    whole = (np.concatenate(column) for column in zip(*parts, strict=True))
    found = Labelled(*(column[: len(ids)] for column in whole))
    if not np.array_equal(found.ids, ids):
        raise ValueError("The sequences are not the tokens of these documents.")
    return found


class _Steps:
    """Reports columns."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        self._done += 1
        self._progress("concepts", float(self._done), float(self._total))


def _best(asked: list[Question], blocks: Blocks, step: Callable[[], None]) -> list[BestCuts]:
    found = [BestCuts(question) for question in asked]
    for column, values in enumerate(chain.from_iterable(blocks)):
        for best in found:
            best.offer(column, values)
        step()
    return found


def _rows(
    by_feature: BestCuts,
    by_neuron: BestCuts,
    by_chance: BestCuts,
    by_token: Float[np.ndarray, " concepts"],
) -> Iterator[tuple[int, ConceptScore]]:
    for place, concept in enumerate(by_feature.question.concepts.tolist()):
        cut = by_feature.cuts[place]
        yield (
            concept,
            ConceptScore(
                concept=CONCEPTS[concept].name,
                contextual=CONCEPTS[concept].kind == "contextual",
                feature=cut.column,
                sign=cut.sign,
                threshold=cut.threshold,
                f1=float(by_feature.f1[place]),
                neuron_f1=float(by_neuron.f1[place]),
                random_f1=float(by_chance.f1[place]),
                token_f1=float(by_token[place]),
            ),
        )


def _mean(rows: list[ConceptScore]) -> MeanScore | None:
    if not rows:
        return None
    return MeanScore(
        feature=fmean(row.f1 for row in rows),
        neuron=fmean(row.neuron_f1 for row in rows),
        random=fmean(row.random_f1 for row in rows),
        token=fmean(row.token_f1 for row in rows),
    )
