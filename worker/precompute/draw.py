"""Draws that depend on what is drawn for and on the seed alone, never on where a run was cut."""

import numpy as np

from worker.precompute.settings import HELD_OUT

_STREAM = np.uint64(0xD1342543DE82EF95)
_HELD_OUT_STREAM = 1
_TOKEN_STREAM = 2


def draw(seed: int, key: np.ndarray) -> np.ndarray:
    """uint64 for each uint64 key: splitmix64 (Steele, Lea, Flood 2014) in the seed's stream."""
    with np.errstate(over="ignore"):
        x = key + np.uint64(seed % 2**64) * _STREAM
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def held_out(seed: int, sequences: np.ndarray) -> np.ndarray:
    """bool for each sequence number: whether it is held out."""
    key = sequences.astype(np.uint64) << np.uint64(2) | np.uint64(_HELD_OUT_STREAM)
    return draw(seed + 1, key) % np.uint64(HELD_OUT) == 0


def sampled(seed: int, tokens: np.ndarray, share: float) -> np.ndarray:
    """bool for each place in the corpus: whether it is in a sample of a `share` of all tokens."""
    key = tokens.astype(np.uint64) << np.uint64(2) | np.uint64(_TOKEN_STREAM)
    return draw(seed + 1, key) < np.uint64(min(int(share * 2**64), 2**64 - 1))
