"""Settings that cannot work are refused in one sentence."""

from dataclasses import replace
from itertools import accumulate
from typing import get_args

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from app.contract.jobs import Architecture
from app.errors import Invalid
from tests.train.planted import D_MODEL, Planted, spec
from worker.memory import memory_of
from worker.train.check import check, step_numbers
from worker.train.settings import resolve
from worker.train.sparsity import L1_ARCHITECTURES
from worker.train.trainer import build, set_scale


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hook_name": "blocks.7.hook_resid_post"}, "no hook point blocks.7.hook_resid_post"),
        ({"k": 129}, "k is 129 but the SAE has only 128 features"),
        ({"k": 300, "d_sae": None}, "only 256 features"),
        (
            {"architecture": "gated", "k": 4},
            "gated takes no k; set l1_coefficient instead",
        ),
        ({"l1_coefficient": 1.0}, "topk takes no l1_coefficient; set k instead"),
        ({"training_tokens": 255}, r"training_tokens \(255\) is less than one batch \(256\)"),
        ({"context_size": 65}, "reads 2 to 64 tokens"),
        ({"also": [{"sae": "0-test"}]}, "The SAE id 0-test is given twice"),
        (
            {"also": [{"sae": "7-b", "hook_name": "blocks.7.hook_resid_post"}]},
            "^7-b: .* no hook point blocks.7.hook_resid_post",
        ),
        ({"also": [{"sae": "0-b", "k": 129}]}, "^0-b: k is 129 but"),
        (
            {"also": [{"sae": "0-b", "architecture": "gated", "k": 4}]},
            "^0-b: gated takes no k; set l1_coefficient instead",
        ),
        (
            {"d_sae": 10**7, "train_batch_tokens": 15_360},
            r"needs about .* GB but cpu has .* GB; lower d_sae",
        ),
    ],
)
def test_refused(planted: Planted, changes: dict, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as refusal:
        check(spec(**changes), planted.model)
    assert refusal.value.detail.count("\n") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"k": 128},
        {"training_tokens": 256},
        {"context_size": 64},
        {"architecture": "standard", "l1_coefficient": 0.5},
        {"also": [{"sae": "0-b", "architecture": "standard"}, {"sae": "0-c", "d_sae": 64}]},
    ],
)
def test_allowed(planted: Planted, changes: dict) -> None:
    check(spec(**changes), planted.model)


def test_saes_that_each_fit_into_memory_may_not_fit_together(planted: Planted) -> None:
    half = memory_of(planted.model.device) // (2 * 4 * (8 * D_MODEL + 9 * 256))
    wide = {"d_sae": min(half, 10**7)}
    check(spec(**wide), planted.model)
    many = [{"sae": f"0-{number}"} for number in range(63)]
    with pytest.raises(Invalid, match=r"features in 64 SAEs on .*, or train fewer SAEs at once"):
        check(spec(also=many, **wide), planted.model)


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_what_a_step_takes_is_known(planted: Planted, architecture: str) -> None:
    """Against what torch allocates in a step in which most features are dead."""
    options = {"k": 16} if architecture not in L1_ARCHITECTURES else {}
    wanted = spec(architecture=architecture, d_sae=1_024, **options)
    settings = replace(resolve(wanted, planted.model), dead_feature_window=1)
    torch.manual_seed(0)
    trainer = build(settings, "planted", planted.model.device)
    set_scale(trainer, x := torch.randn(256, settings.d_in))
    for _ in range(3):
        trainer.step(x)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        trainer.step(x)
    peak = peak_of(profiled) / 4
    assert 0.7 < peak / step_numbers(settings) < 1.1


def peak_of(profiled: profile) -> int:
    """Bytes that were allocated at once."""
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    events.sort(key=lambda one: one.start_ns())
    return max(accumulate(one.nbytes() for one in events))
