"""The phase over features: every range that is not committed yet, from its entries to its evidence."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from app.store.records import FeatureBatch
from worker.cluster.crew import Crew
from worker.materials import Opened
from worker.models import vocabulary
from worker.precompute.coactive import (
    Sample,
    draw_sample,
    nothing_together,
    sampled_tokens,
    share_of,
    together,
)
from worker.precompute.evidence import Corpus, evidence
from worker.precompute.gather import Parts, Streamed, merge
from worker.precompute.labels import quote
from worker.precompute.logits import Unembedding
from worker.precompute.plan import plan_ranges
from worker.precompute.report import Meter
from worker.precompute.scores import Context
from worker.precompute.spill import Slice, Spill
from worker.precompute.weights import weight_evidence
from worker.precompute.work import Recipe, Work
from worker.saes import Dictionary

Ranges = Mapping[str, Collection[tuple[int, int]]]
"""By dictionary, ranges (first, stop) of features."""

_PARTS = 4
"""A range's entries over those of a part of a feature that has more."""


class Basis(NamedTuple):
    """What is known of a dictionary's entries in all shards."""

    counts: Int[np.ndarray, " d_sae"]
    """Entries of each feature."""
    minimum: Float[np.ndarray, " d_sae"]
    """Most negative value of each feature."""
    sample: Sample | None
    """The sampled tokens' entries; None where they are not counted."""


def finish_features(
    work: Work, done: Ranges, on_range: Callable[[str, FeatureBatch], None], crew: Crew | None
) -> None:
    """Hand over the evidence of the ranges that are not in `done`, out of complete spills."""
    counts = {one.id: _counts(work, one) for one in work.dictionaries}
    left = {name: _left(work, counts[name], done.get(name, ())) for name in counts}
    meter = Meter(
        work.progress,
        "features",
        sum(one.d_sae for one in work.dictionaries),
        sum(stop - first for ranges in left.values() for first, stop in ranges),
    )
    with work.report.timed("corpus"):
        corpus = _corpus(work)

    shares = {one.id: _sampled_share(work, one) for one in work.dictionaries}

    def units(share: Callable[[Basis], Basis]) -> Iterator[tuple[str, int, int, Basis]]:
        for one in work.dictionaries:
            basis = share(_basis(work, one, counts[one.id], shares[one.id]))
            yield from ((one.id, first, stop, basis) for first, stop in left[one.id])

    if crew is None:
        do = _Ranges(work, corpus).evidence
        finished = ((unit, do(*unit)) for unit in units(lambda basis: basis))
    else:
        n, tick = sum(map(len, left.values())), partial(meter.add, 0)
        finished = crew.run(partial(_ranges, work.recipe), units(crew.share), n, tick)
    with closing(finished):
        for (name, first, stop, _), batch in finished:
            with work.report.timed("commit"):
                on_range(name, batch)
            meter.add(stop - first)


def _ranges(recipe: Recipe, opened: Opened) -> Callable[[str, int, int, Basis], FeatureBatch]:
    """What a crew's processes do a range with."""
    work = recipe.work(opened)
    return _Ranges(work, _corpus(work)).evidence


def _counts(work: Work, dictionary: Dictionary) -> Int[np.ndarray, " d_sae"]:
    """Entries of each feature."""
    spill = work.spills[dictionary.id]
    counts = np.zeros(dictionary.d_sae, dtype=np.int64)
    for shard in work.shards:
        counts += spill.counts(shard)
    work.report.entries[dictionary.id] = int(counts.sum())
    return counts


def _left(
    work: Work, counts: Int[np.ndarray, " d_sae"], done: Collection[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Ranges that are not done."""
    settings = work.settings
    planned = plan_ranges(counts, settings.range_entries, settings.range_features)
    return [one for one in planned if one not in done]


def _corpus(work: Work) -> Corpus:
    spill = next(iter(work.spills.values()))
    work.report.tokens = sum(spill.tokens(shard) for shard in work.shards)
    return Corpus(
        sequences=work.sequences,
        lengths=torch.from_numpy(np.diff(work.sequences.offsets)),
        tokens=work.report.tokens,
        quoted=quote(vocabulary(work.model).display),
        context=Context(work.sequences, work.model.is_special, work.settings.seed),
    )


def _sampled_share(work: Work, dictionary: Dictionary) -> float | None:
    """Of tokens on which co-activity is counted; None of neurons, which are not counted."""
    report, name = work.report, dictionary.id
    report.sampled[name] = 0
    if dictionary.decoder.rows is None:
        return None
    share, seed = share_of(report.tokens, report.entries[name]), work.settings.seed
    with report.timed("sample"):
        report.sampled[name] = sampled_tokens(work.sequences, work.model.is_special, share, seed)
    return share


def _basis(
    work: Work, dictionary: Dictionary, counts: Int[np.ndarray, " d_sae"], share: float | None
) -> Basis:
    spill, sample = work.spills[dictionary.id], None
    lowest = np.zeros(dictionary.d_sae, dtype=np.float32)
    for shard in work.shards:
        np.minimum(lowest, spill.minimum(shard), out=lowest)
    if share is not None:
        with work.report.timed("sample"):
            seed = work.settings.seed
            sample = draw_sample(spill, work.shards, work.sequences, work.bits, share, seed)
    return Basis(counts, lowest, sample)


class _Ranges:
    """Evidence of ranges."""

    def __init__(self, work: Work, corpus: Corpus) -> None:
        self._work, self._corpus = work, corpus
        self._unembedding = Unembedding(work.model)
        self._dictionaries = {one.id: one for one in work.dictionaries}

    def evidence(self, name: str, first: int, stop: int, basis: Basis) -> FeatureBatch:
        """All evidence of features `first` to `stop` of a dictionary."""
        work, timed = self._work, self._work.report.timed
        dictionary, sample = self._dictionaries[name], basis.sample
        with timed("weights"):
            weights = weight_evidence(work.model, self._unembedding, dictionary, first, stop)
        with timed("coactive"):
            coactive = together(sample, first, stop) if sample else nothing_together(stop - first)
        with timed("evidence"):
            return evidence(
                self._corpus,
                self._parts(work.spills[name], first, stop, basis.counts),
                first,
                basis.minimum[first:stop],
                weights,
                coactive,
                work.settings.seed,
            )

    def _parts(
        self, spill: Spill, first: int, stop: int, counts: Int[np.ndarray, " d_sae"]
    ) -> Parts:
        """The entries of a range; those of one feature with very many are never all in memory."""
        shards, bits = self._work.shards, self._work.bits
        most = self._work.settings.range_entries

        def slices() -> Iterator[Slice]:
            return (one for shard in shards for one in spill.slices(shard, first, stop))

        if stop - first == 1 and counts[first] > most:
            return Streamed(slices, bits, most // _PARTS)
        return [merge(list(slices()), stop - first, bits)]
