"""The bundled model's neurons, split, against the true concepts of its text."""

import numpy as np
import pytest

from tests.split import storyworld
from tests.split.storyworld import Storyworld, p_value, spearman

DOCUMENTS = 400
HELD, NOT_HELD, MANY = 0.8, 0.2, 4
"""A group stands for a concept that so many of its peaks hold, and of another group's at most so
many; groups of fewer examples are left out."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Storyworld:
    return storyworld.build(tmp_path_factory.mktemp("spill"), DOCUMENTS)


def test_neurons_that_do_more_things_fire_on_more_concepts(world: Storyworld) -> None:
    things = np.array([one.polysemanticity for one in world.splits])
    concepts = np.array([world.n_concepts(one) for one in world.splits])
    assert spearman(things, concepts) > 0
    assert p_value(things, concepts) < 0.01
