"""Everything about a range of features, put together as the shelf takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from app.store.records import FeatureBatch
from worker.precompute.coactive import Together
from worker.precompute.examples import select_examples
from worker.precompute.gather import Parts, find_runs
from worker.precompute.labels import name_tokens, write_labels
from worker.precompute.scores import Context, score_labels
from worker.precompute.statistics import statistics
from worker.precompute.weights import WeightEvidence
from worker.tokens import Sequences


@dataclass(frozen=True)
class Corpus:
    """What the evidence needs to know of the corpus."""

    sequences: Sequences
    lengths: Int[torch.Tensor, " sequences"]
    tokens: int
    """Tokens that count."""
    quoted: Sequence[str]
    """The vocabulary's strings, as labels show them."""
    context: Context


def evidence(
    corpus: Corpus,
    parts: Parts,
    first: int,
    minimum: Float[np.ndarray, " features"],
    weights: WeightEvidence,
    coactive: Together,
    seed: int,
) -> FeatureBatch:
    """The evidence of a range that begins at feature `first`, from its entries.

    `minimum` are the most negative values, one a feature.
    """
    of = statistics(parts)
    examples = select_examples(parts, find_runs(parts), len(minimum), corpus.lengths, first, seed)
    named = name_tokens(examples, corpus.sequences, weights.top_logits, seed)
    scores = score_labels(named, parts, corpus.context)
    count = of.count.numpy()
    return FeatureBatch(
        first=first,
        count=count,
        density=count / max(corpus.tokens, 1),
        max_activation=of.max.numpy(),
        mean_activation=of.mean.numpy(),
        min_activation=minimum,
        histogram_edges=of.edges.numpy(),
        histogram_counts=of.histogram.numpy(),
        examples=examples,
        top_logits=weights.top_logits,
        bottom_logits=weights.bottom_logits,
        logit_range=weights.logit_range,
        logit_counts=weights.logit_counts,
        neighbors=weights.neighbors,
        neurons=weights.neurons,
        coactive=coactive,
        labels=write_labels(named, corpus.quoted),
        label_kind=scores.kind,
        label_score=scores.score,
    )
