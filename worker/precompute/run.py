"""Precompute, from tokens to evidence: the steps of the package's docstring, timed.

A run can stop at any moment: by `Cancelled` out of `on_progress`, by any error, by a kill -9.
Called again with the same arguments and the ranges that were committed, it goes on from complete
shards and ranges, and hands over the bytes that an uninterrupted run does.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from app.errors import Invalid
from app.store.records import FeatureBatch
from worker.models import LanguageModel, vocabulary
from worker.precompute.coactive import (
    Sample,
    draw_sample,
    nothing_together,
    sampled_tokens,
    share_of,
    together,
)
from worker.precompute.evidence import Corpus, evidence
from worker.precompute.forecast import check_room, spill_bytes
from worker.precompute.forward import Forward
from worker.precompute.gather import Parts, Streamed, merge
from worker.precompute.kept import in_use
from worker.precompute.labels import quote
from worker.precompute.logits import Unembedding
from worker.precompute.plan import Shard, plan_ranges, plan_shards, position_bits
from worker.precompute.report import Meter, Report
from worker.precompute.scores import Context
from worker.precompute.settings import Settings
from worker.precompute.spill import ShardWriter, Slice, Spill
from worker.precompute.weights import weight_evidence
from worker.progress import Progress, silent
from worker.saes import Dictionary
from worker.tokens import Sequences, batches

_PARTS = 4
"""A range's entries over those of a part of a feature that has more."""

Ranges = Mapping[str, Collection[tuple[int, int]]]
"""By dictionary, ranges (first, stop) of features."""


def precompute(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    sequences: Sequences,
    *,
    spill_dir: Path,
    on_range: Callable[[str, FeatureBatch], None],
    on_progress: Progress = silent,
    done_ranges: Ranges | None = None,
    settings: Settings | None = None,
) -> Report:
    """Compute the evidence of every feature of `dictionaries` (ids all different) on a corpus.

    `on_range(id, batch)` commits a range of features of a dictionary; ranges in `done_ranges` are
    left out. `spill_dir` holds intermediate files, which later calls go on from, also over other
    corpora that begin alike: the caller bounds what is kept there (`worker.precompute.kept`).
    Reports phase `tokens` in tokens (metrics: mean active features a token, `l0/<id>`), then
    `features` in features.

    Raises:
        Invalid: two dictionaries have the same id.
        Unavailable: the disk of `spill_dir` has no room for the intermediate files.
        Cancelled: out of `on_progress`; complete shards and committed ranges stay.
    """
    _check_ids(dictionaries)
    settings = settings or Settings()
    done = done_ranges or {}
    run = _Run(model, dictionaries, sequences, spill_dir, settings, on_progress)
    with in_use(spill.folder for spill in run.spills.values()):
        run.spill_tokens()
        run.finish_features(done, on_range)
    return run.report


def _check_ids(dictionaries: Sequence[Dictionary]) -> None:
    ids = [one.id for one in dictionaries]
    for name in ids:
        if ids.count(name) > 1:
            raise Invalid(f"Two dictionaries have the id {name}; give each an id of its own.")


class _Run:
    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Sequence[Dictionary],
        sequences: Sequences,
        spill_dir: Path,
        settings: Settings,
        on_progress: Progress,
    ) -> None:
        self._model, self._dictionaries, self._sequences = model, dictionaries, sequences
        self._settings, self._progress, self._folder = settings, on_progress, spill_dir
        self._bits = position_bits(model.context_size)
        self._shards = plan_shards(sequences.offsets, settings.shard_tokens, self._bits)
        identity = self._identity()
        self.spills = {one.id: Spill(spill_dir, one, identity, sequences) for one in dictionaries}
        self._counts: dict[str, np.ndarray] = {}
        """Entries of each feature, by dictionary."""
        self.report = Report()

    def _identity(self) -> dict[str, object]:
        """What the spilled entries depend on, besides dictionary and tokens."""
        model = self._model
        return {
            "model": model.fingerprint,
            "number format": f"{model.dtype} on {model.device.type}",
            "position bits": self._bits,
            "batch tokens": self._settings.batch_tokens,
            "segment entries": self._settings.segment_entries,
        }

    def spill_tokens(self) -> None:
        """Steps 2 and 3, for the shards that are not there yet."""
        missing = {
            shard: names
            for shard in self._shards
            if (names := [name for name, spill in self.spills.items() if not spill.has(shard)])
        }
        if missing:
            with self.report.timed("forecast"):
                self._check_room(missing)
        offsets = self._sequences.offsets
        left = sum(int(offsets[shard.stop] - offsets[shard.first]) for shard in missing)
        meter = Meter(self._progress, "tokens", int(offsets[-1]), left)
        with self.report.timed("tokens"):
            for shard, names in missing.items():
                self._fill(shard, names, meter)

    def _check_room(self, missing: Mapping[Shard, Sequence[str]]) -> None:
        whole = spill_bytes(self._model, self._dictionaries, self._sequences, self._settings)
        needed = sum(whole[name] for names in missing.values() for name in names)
        check_room(self._folder, needed // len(self._shards))

    def _fill(self, shard: Shard, names: Sequence[str], meter: Meter) -> None:
        """Run a shard through the dictionaries that do not have it."""
        settings = self._settings
        chosen = [self.spills[name].dictionary for name in names]
        forward = Forward(self._model, chosen)
        tokens, active = 0, dict.fromkeys(names, 0)
        with ExitStack() as folders:
            writers = {
                name: ShardWriter(
                    folders.enter_context(self.spills[name].new(shard)),
                    self.spills[name].dictionary,
                    settings.segment_entries,
                )
                for name in names
            }
            for batch in batches(self._sequences, settings.batch_tokens, shard.first, shard.stop):
                for encoded in forward.encode(batch, shard.first, self._bits):
                    name = encoded.dictionary.id
                    active[name] += writers[name].add(encoded)
                tokens += int(forward.counted(batch).sum())
                l0 = {f"l0/{name}": entries / max(tokens, 1) for name, entries in active.items()}
                meter.add(int(batch.mask.sum()), l0)
            for writer in writers.values():
                writer.close(tokens)

    def finish_features(self, done: Ranges, on_range: Callable[[str, FeatureBatch], None]) -> None:
        """Steps 4 to 8, for the ranges that are not committed."""
        plans = {one.id: self._plan(one) for one in self._dictionaries}
        left = {
            name: [r for r in plan if r not in done.get(name, ())] for name, plan in plans.items()
        }
        meter = Meter(
            self._progress,
            "features",
            sum(one.d_sae for one in self._dictionaries),
            sum(stop - first for ranges in left.values() for first, stop in ranges),
        )
        with self.report.timed("corpus"):
            corpus, unembedding = self._corpus(), Unembedding(self._model)
        for one in self._dictionaries:
            minimum, sample = self._minimum(one), self._sample(one)
            for first, stop in left[one.id]:
                with self.report.timed("weights"):
                    weights = weight_evidence(self._model, unembedding, one, first, stop)
                with self.report.timed("coactive"):
                    coactive = (
                        together(sample, first, stop) if sample else nothing_together(stop - first)
                    )
                with self.report.timed("evidence"):
                    batch = evidence(
                        corpus,
                        self._parts(one, first, stop),
                        first,
                        minimum[first:stop],
                        weights,
                        coactive,
                        self._settings.seed,
                    )
                with self.report.timed("commit"):
                    on_range(one.id, batch)
                meter.add(stop - first)

    def _plan(self, dictionary: Dictionary) -> list[tuple[int, int]]:
        spill = self.spills[dictionary.id]
        counts = np.sum([spill.counts(shard) for shard in self._shards], axis=0)
        self.report.entries[dictionary.id] = int(counts.sum())
        self._counts[dictionary.id] = counts
        return plan_ranges(counts, self._settings.range_entries, self._settings.range_features)

    def _parts(self, dictionary: Dictionary, first: int, stop: int) -> Parts:
        """The entries of a range; those of one feature with very many are never all in memory."""
        spill, most = self.spills[dictionary.id], self._settings.range_entries

        def slices() -> Iterator[Slice]:
            return (one for shard in self._shards for one in spill.slices(shard, first, stop))

        if stop - first == 1 and self._counts[dictionary.id][first] > most:
            return Streamed(slices, self._bits, most // _PARTS)
        return [merge(list(slices()), stop - first, self._bits)]

    def _minimum(self, dictionary: Dictionary) -> np.ndarray:
        parts = [self.spills[dictionary.id].minimum(shard) for shard in self._shards]
        return np.minimum.reduce(parts)

    def _sample(self, dictionary: Dictionary) -> Sample | None:
        """The sampled tokens' entries of a dictionary; None of neurons, which are not counted."""
        tokens, seed = self.report.tokens, self._settings.seed
        self.report.sampled[dictionary.id] = 0
        if dictionary.decoder.rows is None:
            return None
        share = share_of(tokens, self.report.entries[dictionary.id])
        with self.report.timed("sample"):
            self.report.sampled[dictionary.id] = sampled_tokens(
                self._sequences, self._special(), share, seed
            )
            return draw_sample(
                self.spills[dictionary.id], self._shards, self._sequences, self._bits, share, seed
            )

    def _special(self) -> np.ndarray:
        """bool [vocab]: the tokens that do not count."""
        special = np.zeros(self._model.vocab_size, dtype=bool)
        special[[i for i in self._model.special_ids if i < len(special)]] = True
        return special

    def _corpus(self) -> Corpus:
        spill = next(iter(self.spills.values()))
        self.report.tokens = sum(spill.tokens(shard) for shard in self._shards)
        return Corpus(
            sequences=self._sequences,
            lengths=torch.from_numpy(np.diff(self._sequences.offsets)),
            tokens=self.report.tokens,
            quoted=quote(vocabulary(self._model).display),
            context=Context(self._sequences, self._special(), self._settings.seed),
        )
