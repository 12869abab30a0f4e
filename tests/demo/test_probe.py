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
    judged = rng.random((200, 3)) < 0.7
    found = token_rule_f1(Labelled(ids, truth, judged, np.zeros(200, dtype=int)))
    rules = chain.from_iterable(combinations(range(6), size) for size in range(1, 7))
    called = [np.isin(ids, rule) for rule in rules]
    for column in range(3):
        mask = judged[:, column]
        t = truth[mask, column]
        best = max(2 * (c[mask] & t).sum() / (c[mask].sum() + t.sum()) for c in called)
        assert found[column] == pytest.approx(best)


def test_a_probe_finds_a_planted_direction_and_nothing_in_noise():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(4000, 2, generator=generator) < 0.1
    stream = torch.randn(4000, 16, generator=generator)
    stream[:, 3] += 8 * truth[:, 0]
    labelled = Labelled(
        np.zeros(4000, dtype=int), truth.numpy(), np.ones((4000, 2), dtype=bool), np.arange(4000)
    )
    planted, noise = probe_f1(stream, labelled)
    assert planted > 0.95
    assert noise < 0.3


def test_a_probe_is_not_asked_where_the_concept_is_not_in_question():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(4000, 1, generator=generator) < 0.3
    judged = torch.rand(4000, 1, generator=generator) < 0.5
    stream = torch.randn(4000, 4, generator=generator)
    # Where it is not in question the direction says the contrary.
    stream[:, 0] += 8 * (truth == judged)[:, 0]
    labelled = Labelled(
        np.zeros(4000, dtype=int), truth.numpy(), judged.numpy(), np.arange(4000) // 2
    )
    assert probe_f1(stream, labelled)[0] > 0.95
