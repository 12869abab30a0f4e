"""Brute force: every statistic and every example of every feature, from dense activations, in
plain loops. It shares no code with what it judges but the batches that a token is computed in."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from app.store.records import BANDS, FeatureBatch
from worker.activations import capture
from worker.models import LanguageModel
from worker.precompute.plan import Shard
from worker.saes import Dictionary
from worker.tokens import Sequences, batches


def dense_activations(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    shards: list[Shard],
    batch_tokens: int,
) -> np.ndarray:
    """[tokens, d_sae] float32; NaN where a token does not count. The batches are the pipeline's,
    so that rounding is too."""
    dense = np.full((len(sequences.flat), dictionary.d_sae), np.nan, dtype=np.float32)
    for shard in shards:
        for batch in batches(sequences, batch_tokens, shard.first, shard.stop):
            found = capture(model, batch.ids, [dictionary.hook_name])[dictionary.hook_name]
            where, rows = [], []
            for i, row in enumerate(batch.rows):
                begin, end = sequences.offsets[row], sequences.offsets[row + 1]
                for position in range(end - begin):
                    if int(sequences.flat[begin + position]) not in model.special_ids:
                        where.append(begin + position)
                        rows.append(found[i, position])
            if rows:
                dense[where] = dictionary.encode(torch.stack(rows)).numpy()
    return dense


@dataclass
class Expected:
    """Evidence of one feature."""

    count: int = 0
    density: float = 0.0
    max: float = 0.0
    mean: float = 0.0
    min: float = 0.0
    edges: list[float] = field(default_factory=list)
    histogram: list[int] = field(default_factory=list)
    examples: list[tuple] = field(default_factory=list)
    """(band, sequence, offset, length, peak, {position: value})"""


def expect(dense: np.ndarray, sequences: Sequences, feature: int, seed: int) -> Expected:
    """The evidence of one feature."""
    column = dense[:, feature]
    counted = [value for value in column.tolist() if not math.isnan(value)]
    active = [value for value in counted if value > 0]
    largest = max(active, default=0.0)
    expected = Expected(
        count=len(active),
        density=len(active) / len(counted),
        max=largest,
        mean=float(np.float32(math.fsum(active) / max(len(active), 1))),
        min=min([0.0, *counted]),
        edges=[float(np.float32(Fraction(largest) * i / 32)) for i in range(33)],
        histogram=[0] * 32,
    )
    scale = 32 / Fraction(largest or 1)
    for value in active:
        expected.histogram[min(31, math.floor(Fraction(value) * scale))] += 1
    expected.examples = _examples(column, sequences, feature, seed)
    return expected


def _examples(column: np.ndarray, sequences: Sequences, feature: int, seed: int) -> list[tuple]:
    peaks = []
    for sequence in range(len(sequences)):
        begin, end = sequences.offsets[sequence], sequences.offsets[sequence + 1]
        best = None
        for position, value in enumerate(column[begin:end].tolist()):
            if value > 0 and (best is None or value > best[0]):
                best = (value, position)
        if best:
            peaks.append((-best[0], sequence, best[1]))
    peaks.sort()
    chosen = [("top", rank) for rank in range(min(20, len(peaks)))]
    for stratum in range(25):
        low, high = stratum * len(peaks) // 25, (stratum + 1) * len(peaks) // 25
        if high > low:
            draw = splitmix(seed, feature * 25 + stratum) % (high - low)
            chosen.append((f"q{5 - stratum // 5}", low + draw))
    return [
        (BANDS.index(band), *_window(column, sequences, *peaks[rank][1:])) for band, rank in chosen
    ]


def _window(column: np.ndarray, sequences: Sequences, sequence: int, peak: int) -> tuple:
    begin, end = int(sequences.offsets[sequence]), int(sequences.offsets[sequence + 1])
    length = min(32, end - begin)
    offset = min(max(peak - 20, 0), end - begin - length)
    values = column[begin + offset : begin + offset + length].tolist()
    active = {position: value for position, value in enumerate(values) if value > 0}
    return sequence, offset, length, peak - offset, active


def splitmix(seed: int, key: int) -> int:
    """splitmix64 in whole numbers."""
    mask = 2**64 - 1
    x = (key + seed * 0xD1342543DE82EF95) & mask
    x = (x + 1) * 0x9E3779B97F4A7C15 & mask
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def found(batch: FeatureBatch, row: int) -> Expected:
    """What a batch says of one feature, in the oracle's form."""
    examples, listed = batch.examples, []
    for e in np.flatnonzero(examples.feature == row):
        span = slice(examples.values_start[e], examples.values_start[e + 1])
        positions, values = examples.value_position[span], examples.value[span]
        listed.append(
            (
                *(int(c[e]) for c in (examples.band, examples.sequence, examples.offset,
                                      examples.length, examples.peak)),
                dict(zip(positions.tolist(), values.tolist(), strict=True)),
            )
        )  # fmt: skip
    return Expected(
        count=int(batch.count[row]),
        density=float(batch.density[row]),
        max=float(batch.max_activation[row]),
        mean=float(batch.mean_activation[row]),
        min=float(batch.min_activation[row]),
        edges=batch.histogram_edges[row].tolist(),
        histogram=batch.histogram_counts[row].tolist(),
        examples=listed,
    )
