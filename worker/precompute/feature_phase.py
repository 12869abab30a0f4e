"""The phase over features: every range that is not committed yet, from its entries to its evidence."""

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int

from app.store.records import FeatureBatch
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
from worker.precompute.spill import Slice
from worker.precompute.weights import weight_evidence
from worker.precompute.work import Work
from worker.saes import Dictionary

Ranges = Mapping[str, Collection[tuple[int, int]]]
"""By dictionary, ranges (first, stop) of features."""

_PARTS = 4
"""A range's entries over those of a part of a feature that has more."""


def finish_features(
    work: Work, done: Ranges, on_range: Callable[[str, FeatureBatch], None]
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
        corpus, unembedding = _corpus(work), Unembedding(work.model)
    for one in work.dictionaries:
        ranges = _Ranges(work, one, counts[one.id], corpus, unembedding)
        for first, stop in left[one.id]:
            batch = ranges.evidence(first, stop)
            with work.report.timed("commit"):
                on_range(one.id, batch)
            meter.add(stop - first)


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


class _Ranges:
    """Evidence of the ranges of one dictionary."""

    def __init__(
        self,
        work: Work,
        dictionary: Dictionary,
        counts: Int[np.ndarray, " d_sae"],
        corpus: Corpus,
        unembedding: Unembedding,
    ) -> None:
        self._work, self._dictionary, self._counts = work, dictionary, counts
        self._corpus, self._unembedding = corpus, unembedding
        self._spill = work.spills[dictionary.id]
        self._minimum, self._sample = self._find_minimum(), self._draw_sample()

    def evidence(self, first: int, stop: int) -> FeatureBatch:
        """All evidence of features `first` to `stop`."""
        work, timed = self._work, self._work.report.timed
        with timed("weights"):
            weights = weight_evidence(work.model, self._unembedding, self._dictionary, first, stop)
        with timed("coactive"):
            coactive = (
                together(self._sample, first, stop)
                if self._sample
                else nothing_together(stop - first)
            )
        with timed("evidence"):
            return evidence(
                self._corpus,
                self._parts(first, stop),
                first,
                self._minimum[first:stop],
                weights,
                coactive,
                work.settings.seed,
            )

    def _parts(self, first: int, stop: int) -> Parts:
        """The entries of a range; those of one feature with very many are never all in memory."""
        shards, bits = self._work.shards, self._work.bits
        most = self._work.settings.range_entries

        def slices() -> Iterator[Slice]:
            return (one for shard in shards for one in self._spill.slices(shard, first, stop))

        if stop - first == 1 and self._counts[first] > most:
            return Streamed(slices, bits, most // _PARTS)
        return [merge(list(slices()), stop - first, bits)]

    def _find_minimum(self) -> Float[np.ndarray, " d_sae"]:
        lowest = np.zeros(self._dictionary.d_sae, dtype=np.float32)
        for shard in self._work.shards:
            np.minimum(lowest, self._spill.minimum(shard), out=lowest)
        return lowest

    def _draw_sample(self) -> Sample | None:
        """The sampled tokens' entries; None of neurons, which are not counted."""
        work, report, name = self._work, self._work.report, self._dictionary.id
        report.sampled[name] = 0
        if self._dictionary.decoder.rows is None:
            return None
        share, seed = share_of(report.tokens, report.entries[name]), work.settings.seed
        with report.timed("sample"):
            report.sampled[name] = sampled_tokens(
                work.sequences, work.model.is_special, share, seed
            )
            return draw_sample(self._spill, work.shards, work.sequences, work.bits, share, seed)
