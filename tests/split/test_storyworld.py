"""The bundled model's neurons, split, against the true concepts of its text."""

from itertools import combinations

import numpy as np
import pytest

from app.contract.jobs import EVIDENCE
from app.store.split_records import Group, NeuronSplit
from tests.split import storyworld
from tests.split.storyworld import Storyworld, p_value, spearman, windows
from worker.demo.concepts import CONCEPTS

HELD, NOT_HELD, MANY = 0.8, 0.2, 4
"""A group stands for a concept that so large a share of its peaks hold, and so small a share of
another group's; groups of fewer examples are left out."""


SERVED = pytest.param(EVIDENCE.documents, marks=pytest.mark.slow)
"""As many documents as the first start serves evidence of."""


@pytest.fixture(scope="module", params=[200, SERVED])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Storyworld:
    return storyworld.build(tmp_path_factory.mktemp("spill"), request.param)


def test_neurons_that_do_more_things_fire_on_more_concepts(world: Storyworld) -> None:
    things = np.array([one.polysemanticity for one in world.splits])
    concepts = np.array([world.n_concepts(one) for one in world.splits])
    assert spearman(things, concepts) > 0
    assert p_value(things, concepts) < 0.01
    order = np.argsort(things)
    assert concepts[order[-50:]].mean() > concepts[order[:50]].mean()


def test_the_examples_of_a_neuron_part_as_the_concepts_do(world: Storyworld) -> None:
    shown = [one for one in world.splits if _parted(world, one)]
    assert len(shown) >= 10


@pytest.mark.parametrize("world", [SERVED], indirect=True)
def test_the_neuron_of_the_tutorial_is_french_verbs_and_recipes(world: Storyworld) -> None:
    pairs = _parted(world, world.splits[251])
    assert ("french_word", "genre.recipe") in pairs, pairs


def test_shares_add_up_and_most_is_explained(world: Storyworld) -> None:
    for one in world.splits:
        features = sum(part.share for part in one.features) + one.others
        assert abs(features + one.bias + one.rest - 1) < 1e-5
    assert np.median([one.unexplained_variance for one in world.splits]) < 0.2


def _parted(world: Storyworld, split: NeuronSplit) -> list[tuple[str, str]]:
    """Pairs of concepts, each the one of a group and not of another."""
    groups = [one for one in split.groups if one.part and len(one.examples) >= MANY]
    return [
        (CONCEPTS[a].name, CONCEPTS[b].name)
        for one, other in combinations(groups, 2)
        for a in _alone(world, split.neuron, one, other)
        for b in _alone(world, split.neuron, other, one)
    ]


def _alone(world: Storyworld, neuron: int, one: Group, other: Group) -> list[int]:
    """The concepts that the peaks of one group hold, and those of another do not."""
    held = (world.held(neuron, windows(group)).mean(axis=0) for group in (one, other))
    own, others = held
    return np.flatnonzero((own >= HELD) & (others <= NOT_HELD)).tolist()
