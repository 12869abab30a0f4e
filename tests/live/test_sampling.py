"""Sampling equals its definition over the fully sorted vocabulary."""

import itertools
import random

import pytest
import torch

from tests.live.reference import NEAR, cumulative
from worker.live import sampling
from worker.live.sampling import Sampling, next_tokens

SETTINGS = list(itertools.product((0.3, 1.0, 2.5), (0.2, 0.9, 1.0), (None, 1, 5, 200)))


def expected(logits: torch.Tensor, row: Sampling, step: int) -> tuple[int, float]:
    """The token that the definition gives at a step, and the draw's distance to a CDF edge."""
    numbers = random.Random(row.seed)
    uniform = [numbers.random() for _ in range(step + 1)][-1]
    edges = cumulative(logits, row.temperature, row.top_p, row.top_k)
    return int((edges > uniform).nonzero()[0]), float((edges - uniform).abs().min())


@pytest.mark.parametrize("shortlist", [8, 64, 1024])
def test_every_setting_in_one_batch(monkeypatch: pytest.MonkeyPatch, shortlist: int) -> None:
    """Also where the shortlist is too short for what a row may keep."""
    monkeypatch.setattr(sampling, "SHORTLIST", shortlist)
    rows = [Sampling(t, p, k, seed) for seed, (t, p, k) in enumerate(SETTINGS)]
    rows.append(Sampling(0.0))
    generator = torch.Generator().manual_seed(0)
    for step in range(20):
        logits = 3 * torch.randn(len(rows), 300, generator=generator)
        tokens = next_tokens(logits, rows).tolist()
        assert tokens[-1] == int(logits[-1].argmax())
        for row, token, own in zip(rows[:-1], tokens, logits, strict=False):
            right, distance = expected(own, row, step)
            assert token == right or distance < NEAR


def test_alone_and_in_a_crowd_draw_the_same() -> None:
    logits = 2 * torch.randn(40, 50, 3000, generator=torch.Generator().manual_seed(1))
    crowd = [Sampling(0.7 + i / 50, 0.95 if i % 2 else 1.0, seed=i) for i in range(50)]
    alone = Sampling(crowd[7].temperature, crowd[7].top_p, seed=7)
    together = [int(next_tokens(step, crowd)[7]) for step in logits]
    assert together == [int(next_tokens(step[7:8], [alone])[0]) for step in logits]
    assert len(set(together)) > 20


def test_the_distribution_is_the_model_s() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    rows = [Sampling(1.0, seed=i) for i in range(20_000)]
    tokens = next_tokens(logits.expand(len(rows), 4).clone(), rows)
    share = tokens.bincount(minlength=4) / len(rows)
    assert torch.allclose(share, logits.softmax(-1), atol=0.015)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_penalties_are_taken_once_a_token(temperature: float) -> None:
    """Row by row, leaving the logits and the rows beside as they are."""
    penalties = {"presence_penalty": 0.5, "frequency_penalty": 0.25}
    rows = [Sampling(temperature, seed=1), Sampling(temperature, seed=2, **penalties)]
    plain = [Sampling(temperature, seed=1), Sampling(temperature, seed=2)]
    logits = torch.randn(2, 30, generator=torch.Generator().manual_seed(4))
    drawn: list[int] = []
    for _ in range(25):
        lowered = logits.clone()
        for token in set(drawn):
            lowered[1, token] -= 0.5 + 0.25 * drawn.count(token)
        kept = logits.clone()
        tokens = next_tokens(logits, rows).tolist()
        assert torch.equal(kept, logits)
        assert tokens == next_tokens(lowered, plain).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.note(token)
        drawn.append(tokens[1])
    assert not rows[0].drawn and sum(rows[1].drawn.values()) == 25
    assert len(set(drawn)) > 3


def test_a_temperature_near_zero_is_greedy() -> None:
    logits = 100 * torch.randn(6, 50, generator=torch.Generator().manual_seed(2))
    rows = [Sampling(1e-30, top_p, seed=i) for i, top_p in enumerate((1.0, 0.5) * 3)]
    assert torch.equal(next_tokens(logits, rows), logits.argmax(-1))


def test_a_row_of_nan_leaves_its_neighbours_alone() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(3))
    rows = [Sampling(1.0, top_p, seed=1) for top_p in (1.0, 0.9, 0.9)]
    right = next_tokens(logits[[0, 2]], [Sampling(1.0, 1.0, seed=1), Sampling(1.0, 0.9, seed=1)])
    logits[1] = float("nan")
    assert next_tokens(logits, rows)[[0, 2]].tolist() == right.tolist()
