"""A label's score is what knowing its tokens is worth on text that it was not made from."""

import numpy as np
import torch

from app.store.records import LABEL_KINDS
from worker.precompute.gather import Merged
from worker.precompute.labels import Named
from worker.precompute.scores import Context, score_labels
from worker.tokens import Sequences

VOCABULARY, SEQUENCES, LENGTH = 10, 400, 12


def corpus(vocabulary: int = VOCABULARY) -> Sequences:
    tokens = np.random.default_rng(0).integers(1, vocabulary, (SEQUENCES, LENGTH))
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
    either = (own == 3) | (behind == 4)
    active = np.stack([own == 3, behind == 4, (own == 3) & half, half, own == 99, either])
    named = Named(
        fires=np.array([[3, -1], [7, 8], [3, -1], [5, 6], [-1, -1], [3, -1]]),
        others=np.zeros(6, dtype=bool),
        promotes=np.array([[9, -1], [4, -1], [9, 8], [1, -1], [2, -1], [4, -1]]),
    )
    context = Context(sequences, np.zeros(VOCABULARY, dtype=bool), seed=0)
    kind, score = score_labels(named, [merged(active)], context)
    kinds = ["input", "output", "input", "neither", "neither", "both"]
    assert [LABEL_KINDS[one] for one in kind] == kinds
    assert score[:2].tolist() == [1.0, 1.0]
    # All of its tokens are named, and about half of the named tokens' are not active.
    assert 0.9 < score[2] < 1
    assert abs(score[3] - 0.5) < 0.05
    assert np.isnan(score[4])


def test_nothing_is_said_of_features_that_fire_at_random() -> None:
    """Their labels are made from the very tokens that they fired on, so those predict them well."""
    sequences, features, random = corpus(vocabulary=100), 400, np.random.default_rng(2)
    context = Context(sequences, np.zeros(100, dtype=bool), seed=0)
    active = np.zeros((features, SEQUENCES, LENGTH), dtype=bool)
    fires = np.full((features, 3), -1)
    for feature in range(features):
        sequence = random.choice(SEQUENCES, 3, replace=False)
        position = random.integers(0, LENGTH, 3)
        active[feature, sequence, position] = True
        token = sequences.flat.reshape(SEQUENCES, LENGTH)[sequence, position].astype(np.int64)
        fires[feature] = np.where(context.half[sequence] == 0, token, -1)
    named = Named(fires, np.zeros(features, dtype=bool), np.full((features, 1), -1))
    kind, _ = score_labels(named, [merged(active)], context)
    assert (kind > 0).mean() < 0.05
