"""The bundled model's neurons, split by the bundled SAE, beside the true concepts of the text."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from app.store.codec import Evidence, pack, unpack
from app.store.split_records import Group, NeuronSplit
from worker.demo.generator import CORPUS_START, documents
from worker.demo.labels import membership
from worker.demo.loss import SHIPPED
from worker.models import LanguageModel, load_model
from worker.precompute.run import precompute
from worker.progress import silent
from worker.saes import load_sae, neuron_dictionary
from worker.split.run import split_block
from worker.split.shares import effective_number
from worker.tokens import tokenize_corpus

LAYER, SAE = 2, "2-mlp-topk"


class Storyworld(NamedTuple):
    """Neurons of a layer on some documents."""

    evidence: dict[int, Evidence]
    splits: list[NeuronSplit]
    concepts: list[Bool[np.ndarray, "tokens concepts"]]
    """Of each sequence, which are documents."""

    def held(self, neuron: int, windows: list[int]) -> Bool[np.ndarray, "windows concepts"]:
        """The true concepts of the tokens at the peaks of some of a neuron's examples."""
        of, rows = self.evidence[neuron], []
        for window in windows:
            at = int(of.offset[window]) + of.peak[window]
            rows.append(self.concepts[int(of.sequence[window])][at])
        return np.array(rows)

    def n_concepts(self, split: NeuronSplit) -> float:
        """Effective number of the true concepts at the peaks of a neuron's examples; a token that
        has several counts for each of them in part."""
        held = self.held(split.neuron, windows(*split.groups)).astype(float)
        held = held[held.any(axis=1)]
        return effective_number((held / held.sum(axis=1, keepdims=True)).sum(axis=0))


def windows(*groups: Group) -> list[int]:
    """The windows of some groups."""
    return [one.window for group in groups for one in group.examples]


def build(folder: Path, n_documents: int) -> Storyworld:
    """Evidence and splits from the first documents of the demo corpus; `folder` is for spills."""
    model = load_model("storyworld", SHIPPED)
    made = list(documents(1, CORPUS_START, n_documents))
    sequences = tokenize_corpus(model, [one.text for one in made], model.context_size)
    assert len(sequences) == len(made)
    evidence: dict[int, Evidence] = {}
    neurons = neuron_dictionary(model, LAYER)
    precompute(
        model, [neurons], sequences, spill_dir=folder,
        on_range=lambda _, batch: evidence.update(enumerate(map(unpack, pack(batch)), batch.first)),
    )  # fmt: skip
    sae = load_sae(SAE, SHIPPED.parent / "saes" / SAE, model=model)
    block = (0, neurons.d_sae)
    splits = split_block(model, sae, sequences, evidence.items(), block, silent)
    return Storyworld(evidence, splits, [_concepts(model, one) for one in made])


def _concepts(model: LanguageModel, document) -> Bool[np.ndarray, "tokens concepts"]:
    """Of every token, BOS first."""
    encoded = model.tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True)
    return membership(document, [(0, 0), *encoded["offset_mapping"]])


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of ranks; equal values share theirs."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[which]


def p_value(one: np.ndarray, other: np.ndarray, permutations: int = 5_000) -> float:
    """Share of random pairings whose correlation is as large: one-sided, never 0."""
    random, ranks = np.random.default_rng(0), (_ranks(one), _ranks(other))
    a, b = ((r - r.mean()) / r.std() for r in ranks)
    chance = np.array([a @ random.permutation(b) for _ in range(permutations)])
    return float((1 + (chance >= a @ b - 1e-9).sum()) / (1 + permutations))
