"""A feature on the shelf → its page, whether it was computed or imported."""

import numpy as np

from app.rows.page import Page, Window
from app.store.records import BANDS, Feature, Vocabulary

_PLACES = {band: place for place, band in enumerate(BANDS)}


def page_of(feature: Feature, vocabulary: Vocabulary) -> Page:
    """The page of a feature whose token ids are those of a vocabulary."""
    return Page(
        index=feature.index,
        label=feature.label,
        density=feature.density,
        max_activation=np.float32(feature.max_activation),
        histogram_edges=np.array(feature.histogram_edges, np.float32),
        histogram_counts=np.array(feature.histogram_counts, np.int64),
        logit_range=_range(feature.logit_edges),
        logit_counts=np.array(feature.logit_counts, np.int64),
        top=_weights(feature.top_logits, vocabulary),
        bottom=_weights(feature.bottom_logits, vocabulary),
        neighbors=(
            np.array([index for index, _ in feature.neighbors], np.int64),
            np.array([cosine for _, cosine in feature.neighbors], np.float32),
        ),
        windows=_windows(feature, vocabulary),
    )


def _windows(feature: Feature, vocabulary: Vocabulary) -> list[Window]:
    windows = feature.windows
    if not len(windows):
        return []
    tokens = windows.cut(vocabulary.shown[windows.token_ids].tolist())
    found = windows.cut(list(windows.values))
    bands = map(_PLACES.__getitem__, windows.band)
    return list(map(Window, bands, windows.peak, tokens, found))


def _weights(
    pairs: list[tuple[int, float]], vocabulary: Vocabulary
) -> tuple[list[str], np.ndarray]:
    tokens = [vocabulary.display[token] for token, _ in pairs]
    return tokens, np.array([value for _, value in pairs], np.float32)


def _range(edges: list[float]) -> np.ndarray:
    return np.array([edges[0], edges[-1]] if edges else [0, 0], np.float32)
