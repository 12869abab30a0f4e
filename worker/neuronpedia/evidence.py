"""A feature's page → what the shelf stores, with numbers in the place of token strings."""

from typing import Any

import numpy as np
import orjson

from app.rows.page import Page, Window
from app.store import words
from app.store.imports import MAX_EXAMPLES, ImportedFeature
from app.store.records import Examples, FeatureBatch
from worker.neuronpedia.strings import Strings
from worker.neuronpedia.values import Refused


def feature(page: Page, kept: dict[str, Any], strings: Strings) -> ImportedFeature:
    """What `app.store.imports.put` takes. Raises Refused when what is kept is nested too deeply."""
    try:
        more = orjson.dumps(kept)
    except orjson.JSONEncodeError as error:
        raise Refused(f"it cannot be kept ({error}); it is nested too deeply") from None
    # The strongest examples are there a second time in the interval that they belong to.
    texts = [tuple(window.tokens) for window in page.windows]
    sequences = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    tokens = [strings(text) for text in sequences]
    fired = [window.tokens[window.peak] for window in page.windows[: words.PEAKS]]
    found_by = words.of_strings(page.label, page.top[0][: words.PROMOTED] + fired)
    of = [sequences[text] for text in texts]
    return ImportedFeature(_batch(page, of, strings), found_by, tokens, more)


def _batch(page: Page, sequences: list[int], strings: Strings) -> FeatureBatch:
    """A batch of this one feature. Its mean is as exact as the histogram. `sequences` are those of
    its windows, counted from its first."""
    counts, edges = page.histogram_counts, page.histogram_edges.astype(np.float64)
    active = int(counts.sum())
    mean = (counts * (edges[:-1] + edges[1:]) / 2).sum() / active if active else 0.0
    lowest = min((float(window.values.min()) for window in page.windows), default=0.0)
    return FeatureBatch(
        first=page.index,
        count=np.array([active]),
        density=np.array([page.density]),
        max_activation=np.array([page.max_activation]),
        mean_activation=np.array([mean], np.float32),
        min_activation=np.array([min(lowest, 0.0)], np.float32),
        histogram_edges=page.histogram_edges[None],
        histogram_counts=counts[None],
        examples=_examples(page.windows, page.index * MAX_EXAMPLES + np.array(sequences, np.int64)),
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


def _examples(windows: list[Window], sequences: np.ndarray) -> Examples:
    """Values other than 0, by position."""
    active = [np.flatnonzero(window.values) for window in windows]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in active])]).astype(np.int64)
    longest = max((len(window.values) for window in windows), default=0)
    position = np.uint8 if longest <= 256 else np.uint16
    found = [window.values[at] for window, at in zip(windows, active, strict=True)]
    n = len(windows)
    return Examples(
        feature=np.zeros(n, np.int32),
        band=np.array([window.band for window in windows], np.int8),
        sequence=sequences.astype(np.int32),
        offset=np.zeros(n, np.int32),
        length=np.array([len(window.values) for window in windows], np.int16),
        peak=np.array([window.peak for window in windows], np.int16),
        values_start=starts,
        value_position=np.concatenate([np.zeros(0, np.int64), *active]).astype(position),
        value=np.concatenate([np.zeros(0, np.float32), *found]),
    )
