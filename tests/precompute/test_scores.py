"""A label's score is what knowing its tokens is worth on text that it was not made from."""

import numpy as np
import torch

from app.store.records import LABEL_KINDS
from worker.precompute.gather import Merged
from worker.precompute.labels import Named
from worker.precompute.scores import Context, score_labels
from worker.tokens import Sequences

VOCABULARY, SEQUENCES, LENGTH = 10, 400, 12


def corpus() -> Sequences:
    tokens = np.random.default_rng(0).integers(1, VOCABULARY, (SEQUENCES, LENGTH))
    return Sequences(tokens.astype(np.uint16).flatten(), np.arange(SEQUENCES + 1) * LENGTH)


def merged(active: np.ndarray) -> Merged:
    """Entries from bool [features, sequences, length]."""
    feature, sequence, position = (torch.from_numpy(c).int() for c in np.nonzero(active))
    count = torch.from_numpy(active.sum((1, 2)))
    return Merged(count, feature, sequence, position, torch.ones(len(feature)))


def test_planted_features_get_their_kind_and_score() -> None:
    sequences = corpus()
    own = sequences.flat.reshape(SEQUENCES, LENGTH)
    behind = np.concatenate([own[:, 1:], np.zeros_like(own[:, :1])], axis=1)
    half = np.random.default_rng(1).random(own.shape) < 0.5
    active = np.stack([own == 3, behind == 4, (own == 3) & half, half, own == 99])
    named = Named(
        fires=np.array([[3, -1, -1], [7, 8, -1], [3, -1, -1], [5, 6, -1], [-1, -1, -1]]),
        others=np.zeros(5, dtype=bool),
        promotes=np.array([[9, -1, -1], [4, -1, -1], [9, 8, -1], [1, -1, -1], [2, -1, -1]]),
    )
    context = Context(sequences, np.zeros(VOCABULARY, dtype=bool), seed=0)
    kind, score = score_labels(named, [merged(active)], context)
    assert [LABEL_KINDS[one] for one in kind] == ["input", "output", "input", "neither", "neither"]
    assert score[:2].tolist() == [1.0, 1.0]
    # All of its tokens are named, and about half of the named tokens' are not active.
    assert 0.9 < score[2] < 1
    assert abs(score[3] - 0.5) < 0.05
    assert np.isnan(score[4])
