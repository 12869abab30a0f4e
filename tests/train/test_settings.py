"""Schedules scale with the run."""

import pytest

from tests.train.planted import Planted, spec
from worker.train.settings import WINDOW_BYTES, resolve, resolve_each


@pytest.mark.parametrize("steps", [1, 2, 19, 40, 1_000, 1_000_000])
def test_schedules_fit_into_the_run(planted: Planted, steps: int) -> None:
    settings = resolve(spec(architecture="standard", training_tokens=steps * 256), planted.model)
    assert settings.steps == steps and settings.tokens == steps * 256
    assert settings.lr_warm_up_steps + settings.lr_decay_steps <= steps
    assert settings.lr_warm_up_steps in (0, *range(2, 1_001))
    assert 1 <= settings.window_batches <= min(64, steps)
    assert settings.dead_feature_window >= 1
    assert steps // settings.log_every <= 400


def test_each_architecture_has_its_own_sparsity(planted: Planted) -> None:
    assert resolve(spec(), planted.model).sparsity == {"k": 3}
    standard = resolve(spec(architecture="standard", l1_coefficient=2.0), planted.model)
    assert standard.sparsity == {"l1_coefficient": 2.0, "l1_warm_up_steps": 6}
    gated = resolve(spec(architecture="gated"), planted.model)
    assert gated.sparsity == {"l1_coefficient": 1.0, "l1_warm_up_steps": 6}
    matryoshka = resolve(spec(architecture="matryoshka_batchtopk", k=None), planted.model)
    assert matryoshka.sparsity == {"k": 16.0, "matryoshka_widths": [8, 16, 32, 64, 128]}
    jumprelu = resolve(spec(architecture="jumprelu"), planted.model).sparsity
    assert jumprelu["target_l0"] == 3.0 and jumprelu["l0_warm_up_steps"] == 6
    pursuit = resolve(spec(architecture="matching_pursuit"), planted.model).sparsity
    assert pursuit["max_iterations"] == 3


def test_narrow_matryoshka_levels_differ(planted: Planted) -> None:
    narrow = resolve(spec(architecture="matryoshka_batchtopk", d_sae=5, k=1), planted.model)
    assert narrow.sparsity["matryoshka_widths"] == [1, 2, 5]


def test_tokens_that_fill_no_batch_are_left_out(planted: Planted) -> None:
    assert resolve(spec(training_tokens=1_000), planted.model).tokens == 3 * 256


def test_windows_and_forwards_of_many_hook_points_fit_into_memory(planted: Planted) -> None:
    names = list(planted.model.sites)
    each_site = [spec(sae=name, hook_name=name, train_batch_tokens=2_048) for name in names]
    few = resolve_each(each_site[:1], planted.model)[0]
    assert few == resolve(each_site[0], planted.model)
    wide = 2**12
    many = resolve(each_site[0], planted.model, d_window=wide * len(names))
    assert many.window_batches * 2_048 * 4 * wide * len(names) <= WINDOW_BYTES["cpu"]
    assert many.forward_tokens * 4 * wide * len(names) <= WINDOW_BYTES["cpu"]
    together = resolve_each(each_site, planted.model)
    assert len({(one.window_batches, one.forward_tokens) for one in together}) == 1
