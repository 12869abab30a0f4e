"""The Kneser-Ney peer: a distribution, by hand on a small text, and better with more text."""

import math

import numpy as np
import pytest

from worker.demo.ngram import NGram


def _sequences(count: int, seed: int) -> list[list[int]]:
    """A chain over symbols 1-4 (0 is BOS) in which the next symbol is mostly the last plus one."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(count):
        sequence = [0, int(rng.integers(1, 5))]
        for _ in range(12):
            follows = sequence[-1] % 4 + 1
            sequence.append(follows if rng.random() < 0.8 else int(rng.integers(1, 5)))
        sequences.append(sequence)
    return sequences


@pytest.mark.parametrize("history", [[0], [0, 1], [0, 1, 2, 3, 4], [0, 4, 4, 4, 4, 4, 4]])
def test_the_next_symbol_has_a_distribution(history: list[int]):
    model = NGram(_sequences(20, seed=0), vocab_size=5)
    total = sum(math.exp(model.log_probabilities([*history, w])[-1]) for w in range(5))
    assert total == pytest.approx(1.0)


def test_bigrams_by_hand():
    model = NGram([[0, 1, 2, 1, 2, 1, 1]], vocab_size=3, order=2)
    # Bigrams 01:1 12:2 21:2 11:1, so D_2 = 2 / (2 + 2 * 2) = 1/3. Distinct left neighbours:
    # 1 has {0, 2, 1}, 2 has {1}, so n1 = 1, n2 = 0 and D_1 = 0.95 by the cap.
    lower = {1: (3 - 0.95) / 4 + 0.95 * 2 / 4 / 3, 2: (1 - 0.95) / 4 + 0.95 * 2 / 4 / 3}
    one_after_one = (1 - 1 / 3) / 3 + (1 / 3) * 2 / 3 * lower[1]
    two_after_one = (2 - 1 / 3) / 3 + (1 / 3) * 2 / 3 * lower[2]
    found = np.exp(model.log_probabilities([0, 1, 1, 2]))
    assert found[1:] == pytest.approx([one_after_one, two_after_one])


def test_sequences_do_not_see_each_other():
    model = NGram(_sequences(50, seed=0), vocab_size=5)
    one, two = _sequences(2, seed=1)
    apart = model.log_probabilities(one).sum() + model.log_probabilities(two).sum()
    assert len(model.log_probabilities(one)) == len(one) - 1
    assert apart == pytest.approx(sum(model.log_probabilities(s).sum() for s in (two, one)))


def test_it_approaches_the_entropy_of_the_source():
    held_out = _sequences(200, seed=9)
    symbols = sum(len(s) - 1 for s in held_out)
    model = NGram(_sequences(4000, seed=0), vocab_size=5, order=3)
    nats = -sum(model.log_probabilities(s).sum() for s in held_out) / symbols
    entropy = (math.log(4) + 12 * -(0.85 * math.log(0.85) + 0.15 * math.log(0.05))) / 13
    assert nats == pytest.approx(entropy, abs=0.03)


def test_too_many_symbols_are_refused():
    with pytest.raises(ValueError, match="63 bits"):
        NGram([[0, 1]], vocab_size=10_000)
