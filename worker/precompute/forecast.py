"""How large the spill will be, foretold from a small sample, and whether the disk has room."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.errors import Unavailable
from worker.models import LanguageModel
from worker.precompute.forward import Forward
from worker.precompute.kept import trim
from worker.precompute.settings import Settings
from worker.precompute.spill import ENTRY_BYTES, START_BYTES
from worker.saes import Dictionary
from worker.tokens import Sequences, batches

_SAMPLE_TOKENS = 2_048
_SAMPLE_PLACES = 32
_MARGIN = 1.2
"""On what the sample says."""


def spill_bytes(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    sequences: Sequences,
    settings: Settings,
) -> dict[str, int]:
    """Bytes that the entries of the whole corpus take on disk, by dictionary, judged by evenly
    spaced sequences."""
    sample = _sample(sequences)
    forward = Forward(model, dictionaries)
    entries = dict.fromkeys((one.id for one in dictionaries), 0)
    for batch in batches(sample, settings.batch_tokens):
        for encoded in forward.encode(batch, 0, 0):
            entries[encoded.dictionary.id] += len(encoded.entries.value)
    growth = len(sequences.flat) / len(sample.flat)
    shards = -(-len(sequences.flat) // settings.shard_tokens)
    limit, total = settings.segment_limit(len(dictionaries)), {}
    for one in dictionaries:
        expected = int(entries[one.id] * growth)
        segments = shards + expected // limit
        total[one.id] = expected * ENTRY_BYTES + segments * (one.d_sae + 1) * START_BYTES
    return total


def check_room(folder: Path, needed: int) -> None:
    """Refuse a spill that will not fit, once those kept of earlier runs are gone.

    Raises:
        Unavailable: the disk has less room than `needed` bytes and a margin.
    """
    if shutil.disk_usage(folder).free < _MARGIN * needed:
        trim(folder, 0)
    free = shutil.disk_usage(folder).free
    if free < _MARGIN * needed:
        raise Unavailable(
            f"Precompute will write about {_MARGIN * needed / 1e9:.2g} GB of intermediate files "
            f"to {folder}, where {free / 1e9:.2g} GB are free; free some disk, set "
            "SAESCOPE_DATA_DIR to a larger one, or take fewer texts or dictionaries."
        )


def _sample(sequences: Sequences) -> Sequences:
    """The beginnings of evenly spaced sequences, about `_SAMPLE_TOKENS` tokens and not too few
    places."""
    share = min(1.0, _SAMPLE_TOKENS / len(sequences.flat))
    count = min(len(sequences), max(_SAMPLE_PLACES, int(share * len(sequences))))
    rows = ((np.arange(count) + 0.5) * len(sequences) / count).astype(np.int64)
    most = max(2, _SAMPLE_TOKENS // min(_SAMPLE_PLACES, count))
    begins = sequences.offsets[rows]
    ends = np.minimum(sequences.offsets[rows + 1], begins + most)
    parts = [sequences.flat[begin:end] for begin, end in zip(begins, ends, strict=True)]
    return Sequences(np.concatenate(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64))
