"""A few rounds of what `bench.faults` does a hundred times; behind what looks at a first start."""

import pytest

from tests.flow.conftest import slow_on_postgres
from tests.flow.faults import QUESTIONS, rounds
from tests.flow.service import Service

pytestmark = pytest.mark.timeout(900)


@slow_on_postgres
def test_killed_at_random_under_load_it_answers_nothing_wrong_and_loses_nothing(
    service: Service,
) -> None:
    load = rounds(service, 10, seed=5)
    print(dict(load.told), len(load.jobs), "jobs")
    assert not load.wrong
    assert all(load.told[f"{name} right"] > 10 for name in QUESTIONS)
    assert sum(load.told[f"{name} none"] for name in QUESTIONS) > 0, "nothing was ever away"
    assert load.jobs and not load.lost()
