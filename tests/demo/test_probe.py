"""The measures of how well a concept is told: against brute force and planted directions."""

from itertools import chain, combinations

import numpy as np
import pytest
import torch

from worker.demo.probe import Labelled, probe_f1, token_rule_f1


def test_the_token_rule_is_the_best_of_all_rules():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, 200)
    truth = rng.random((200, 3)) < rng.random((6, 3))[ids]
    found = token_rule_f1(Labelled(ids, truth, np.zeros(200, dtype=int)))
    rules = chain.from_iterable(combinations(range(6), size) for size in range(1, 7))
    called = [np.isin(ids, rule) for rule in rules]
    for column in range(3):
        t = truth[:, column]
        best = max(2 * (c & t).sum() / (c.sum() + t.sum()) for c in called)
        assert found[column] == pytest.approx(best)


def test_a_probe_finds_a_planted_direction_and_nothing_in_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(4000, 2, generator=generator) < 0.1
    stream = torch.randn(4000, 16, generator=generator)
    stream[:, 3] += 8 * truth[:, 0]
    labelled = Labelled(np.zeros(4000, dtype=int), truth.numpy(), np.arange(4000))
    planted, noise = probe_f1(stream, labelled)
    assert planted > 0.95
    assert noise < 0.3
