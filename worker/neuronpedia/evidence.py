"""A feature's page → what the shelf stores, with numbers in the place of token strings."""

from typing import Any

import numpy as np

from app.rows.page import Page, Window
from app.store import words
from app.store.imports import MAX_EXAMPLES, ImportedFeature
from app.store.records import Examples, FeatureBatch
from worker.neuronpedia.active import Active
from worker.neuronpedia.strings import Strings
from worker.neuronpedia.values import dumped


def feature(page: Page, active: Active, kept: dict[str, Any], strings: Strings) -> ImportedFeature:
    """What `app.store.imports.put` takes; `active` are the page's values. Raises Refused when what is kept is nested too deeply."""
    more, windows = dumped(kept), page.windows
    tokens = [np.asarray(window.tokens, np.int32) for window in windows]
    # The strongest examples are there a second time in the interval that they belong to.
    texts = [one.tobytes() for one in tokens]
    sequences = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    of = [sequences[text] for text in texts]
    fired = [
        strings[text[window.peak]]
        for text, window in zip(tokens[: words.PEAKS], windows, strict=False)
    ]
    found_by = words.of_strings(page.label, page.top[0][: words.PROMOTED] + fired)
    different = [np.frombuffer(text, np.int32) for text in sequences]
    return ImportedFeature(_batch(page, active, of, strings), found_by, different, more)


def _batch(page: Page, active: Active, sequences: list[int], strings: Strings) -> FeatureBatch:
    """A batch of this one feature. Its mean is as exact as the histogram. `sequences` are those of
    its windows, counted from its first."""
    counts, edges = page.histogram_counts, page.histogram_edges.astype(np.float64)
    count = int(counts.sum())
    mean = (counts * (edges[:-1] + edges[1:]) / 2).sum() / count if count else 0.0
    numbers = page.index * MAX_EXAMPLES + np.array(sequences, np.int64)
    return FeatureBatch(
        first=page.index,
        count=np.array([count]),
        density=np.array([page.density]),
        max_activation=np.array([page.max_activation]),
        mean_activation=np.array([mean], np.float32),
        min_activation=active.values.min(initial=0, keepdims=True),
        histogram_edges=page.histogram_edges[None],
        histogram_counts=counts[None],
        examples=_examples(page.windows, active, numbers),
        top_logits=(strings(page.top[0])[None], page.top[1][None]),
        bottom_logits=(strings(page.bottom[0])[None], page.bottom[1][None]),
        logit_range=page.logit_range[None],
        logit_counts=page.logit_counts[None].astype(np.int32),
        neighbors=(page.neighbors[0][None].astype(np.int32), page.neighbors[1][None]),
        neurons=(_none(np.int32), _none(np.int32), _none(np.float32)),
        coactive=(_none(np.int32), _none(np.int32)),
        labels=[page.label],
        label_kind=np.zeros(1, np.int8),
        label_score=np.array([np.nan], np.float32),
    )


def _none(dtype: type) -> np.ndarray:
    """[1, 0]"""
    return np.zeros((1, 0), dtype)


def _examples(windows: list[Window], active: Active, sequences: np.ndarray) -> Examples:
    lengths = np.array([len(window.values) for window in windows], np.int16)
    position = np.uint8 if lengths.max(initial=0) <= 256 else np.uint16
    n = len(windows)
    return Examples(
        feature=np.zeros(n, np.int32),
        band=np.array([window.band for window in windows], np.int8),
        sequence=sequences.astype(np.int32),
        offset=np.zeros(n, np.int32),
        length=lengths,
        peak=np.array([window.peak for window in windows], np.int16),
        values_start=active.starts,
        value_position=active.positions.astype(position),
        value=active.values,
    )
