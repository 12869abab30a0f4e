"""Settings that cannot work are refused in one sentence."""

import pytest

from app.errors import Invalid
from tests.train.planted import Planted, spec
from worker.train.check import check


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
    ],
)
def test_allowed(planted: Planted, changes: dict) -> None:
    check(spec(**changes), planted.model)
