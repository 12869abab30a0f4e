"""The geometry of pictures, and numbers as they are written."""

import numpy as np
import pytest

from app.store.activity import Activity
from app.web import numbers
from app.web.charts import HEIGHT, WIDTH, bars
from app.web.cloud import COLUMNS, ROWS, cloud


def test_bars_stand_on_the_ground_and_grow_with_the_root() -> None:
    found = bars([0.0, 1.0, 2.0, 3.0], [4, 0, 16])
    assert [bar.x for bar in found] == [0.0, round(2 * WIDTH / 3, 1)]
    assert [bar.height for bar in found] == [HEIGHT / 2, HEIGHT]
    assert all(bar.y + bar.height == HEIGHT for bar in found)
    assert [bar.told for bar in found] == ["0 to 1: 4", "2 to 3: 16"]
    assert bars([0.0], []) == [] and bars([0.0, 1.0], [0]) == []


def test_one_among_many_is_seen() -> None:
    assert bars([0, 1, 2], [1, 10**9])[0].height == 1.0


def activity(density: list[float], maximum: list[float]) -> Activity:
    return Activity("r", 1, "f", 100, np.array(density), np.array(maximum))


def test_every_feature_that_fired_is_in_one_cell() -> None:
    random = np.random.default_rng(0)
    density = np.exp(random.normal(-6, 2, 500)).tolist()
    maximum = np.exp(random.normal(1, 1, 500)).tolist()
    found = cloud(activity([*density, 0.0], [*maximum, 0.0]))
    assert found is not None and found.dead == 1
    assert sum(cell.features for cell in found.cells) == 500
    for cell in found.cells:
        inside = sum(
            cell.density[0] <= d <= cell.density[1]
            and cell.max_activation[0] <= m <= cell.max_activation[1]
            for d, m in zip(density, maximum, strict=True)
        )
        assert inside == cell.features
        assert 0 <= cell.column < COLUMNS and 0 <= cell.row < ROWS and 1 <= cell.shade <= 20
    strongest = max(found.cells, key=lambda cell: cell.max_activation[1])
    assert strongest.row == 0 and max(maximum) <= strongest.max_activation[1]


def test_an_import_may_leave_densities_out() -> None:
    found = cloud(activity([0.0, 0.1, 0.0], [2.0, 3.0, 0.0]))
    assert found is not None and [cell.features for cell in found.cells] == [1]
    assert found.dead == 1
    assert cloud(activity([0.0], [2.0])) is None


def test_one_feature_and_none() -> None:
    found = cloud(activity([0.1], [2.0]))
    assert found is not None and [cell.features for cell in found.cells] == [1]
    assert cloud(activity([0.0], [0.0])) is None


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (12.345, "12.3"), (0.04567, "0.0457"), (1234.5, "1,234"), (-7.0, "-7")],
)
def test_numbers(value: float, written: str) -> None:
    assert numbers.number(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0%"), (0.0098, "0.98%"), (0.1234, "12.3%"), (1.0, "100.0%"), (2e-6, "2e-04%")],
)
def test_shares(value: float, written: str) -> None:
    assert numbers.share(value) == written


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0123456789abcdef" * 4, "0123456789ab…"), ("cafe", "cafe"), ("x" * 64, "x" * 64)],
)
def test_fingerprints_are_cut(text: str, shown: str) -> None:
    assert numbers.brief(text) == shown
