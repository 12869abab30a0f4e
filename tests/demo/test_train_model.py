"""The training program: the same seed gives the same bytes, and what it leaves loads."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.demo.train_model import PEAK_LEARNING_RATE, learning_rate


def _train(out: Path, seed: int) -> dict[str, str]:
    command = [sys.executable, "-m", "worker.demo.train_model", "--out", str(out)]
    options = ["--seed", str(seed), "--steps", "2", "--threads", "1"]
    subprocess.run([*command, *options], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True)
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.iterdir()}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    first, second = _train(tmp_path / "a", seed=0), _train(tmp_path / "b", seed=0)
    assert first == second
    assert {"model.safetensors", "config.json", "tokenizer.json", "training.json"} <= set(first)
    assert _train(tmp_path / "c", seed=1)["model.safetensors"] != first["model.safetensors"]


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate(step, 200) for step in range(200)]
    assert max(rates) == PEAK_LEARNING_RATE
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001 * PEAK_LEARNING_RATE
