"""The best cut and the best token ids: against brute force, planted concepts and shuffled ones."""

from itertools import chain, combinations

import numpy as np
import pytest

from worker.demo.f1 import best_ids, f1_of
from worker.demo.probe import Labelled
from worker.demo.rules import BestCuts, Question, calls, questions, token_f1

TOKENS, CONCEPTS = 600, 4


def labelled(truth: np.ndarray, judged: np.ndarray | None = None, seed: int = 0) -> Labelled:
    """Ten tokens a document."""
    ids = np.random.default_rng(seed).integers(0, 6, len(truth))
    everywhere = np.ones(truth.shape, dtype=bool)
    document = np.arange(len(truth)) // 10
    return Labelled(ids, truth, everywhere if judged is None else judged, document)


def offered(question: Question, columns: np.ndarray) -> BestCuts:
    best = BestCuts(question)
    for number, values in enumerate(columns):
        best.offer(number, values)
    return best


def brutally(question: Question, columns: np.ndarray, concept: int) -> float:
    """The largest F1 of all cuts on the half that chooses."""
    rows, truth = question.chosen
    return max(
        f1_of(sign * values[rows] >= sign * threshold, truth[:, concept])
        for values in columns
        for threshold in np.unique(values[rows])
        for sign in (1, -1)
    )


def test_the_best_cut_is_the_best_of_all_cuts() -> None:
    random = np.random.default_rng(1)
    truth = random.random((TOKENS, CONCEPTS)) < [0.02, 0.1, 0.3, 0.7]
    columns = random.normal(size=(6, TOKENS)).astype(np.float32)
    columns[0] += truth[:, 1]
    columns[1] -= truth[:, 3]
    columns[2:4] = np.maximum(columns[2:4] - 1, 0)  # sparse: most tokens tie at 0
    columns[4] = columns[4].round()  # ties everywhere
    columns[5] = 3  # says nothing
    judged = random.random((TOKENS, CONCEPTS)) < 0.8
    judged[:, 1] = judged[:, 0]
    asked = questions(labelled(truth, judged))
    assert sorted(c for question in asked for c in question.concepts) == list(range(CONCEPTS))
    assert len(asked) == 3
    for question in asked:
        found = offered(question, columns)
        for place, cut in enumerate(found.cuts):
            assert found.chosen_f1[place] == pytest.approx(brutally(question, columns, place))
            for (rows, held), f1 in (
                (question.chosen, found.chosen_f1[place]), (question.scored, found.f1[place])
            ):  # fmt: skip
                called = calls(cut, columns[cut.column][rows])
                assert f1_of(called, held[:, place]) == pytest.approx(f1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_column_that_is_the_concept_reaches_1(sign: int) -> None:
    random = np.random.default_rng(2)
    truth = random.random((TOKENS, 1)) < 0.05
    columns = random.normal(size=(5, TOKENS)).astype(np.float32)
    columns[3] = sign * np.where(truth[:, 0], 2 + random.random(TOKENS), 0)
    found = offered(questions(labelled(truth))[0], columns)
    assert (found.cuts[0].column, found.cuts[0].sign) == (3, sign)
    assert found.f1[0] == 1


def test_chance_reaches_little_where_it_did_not_choose() -> None:
    """Of many columns the best fits the noise of the half that chooses; the other half says so.
    Calling everything reaches 2 p / (1 + p)."""
    random = np.random.default_rng(3)
    share = 0.05
    truth = random.random((4 * TOKENS, 8)) < share
    columns = random.normal(size=(200, len(truth))).astype(np.float32)
    found = offered(questions(labelled(truth))[0], columns)
    base = 2 * share / (1 + share)
    assert found.chosen_f1.mean() > 1.4 * base
    assert found.f1.mean() < 1.15 * base


def test_no_document_chooses_and_scores() -> None:
    random = np.random.default_rng(4)
    told = labelled(random.random((TOKENS, 2)) < 0.2)
    for chosen, scored in ((q.chosen, q.scored) for q in questions(told)):
        documents = set(told.document[chosen.rows]), set(told.document[scored.rows])
        assert not documents[0] & documents[1]
        assert len(chosen.rows) + len(scored.rows) == TOKENS


def test_a_concept_that_a_half_lacks_is_not_asked_for() -> None:
    truth = np.zeros((TOKENS, 2), dtype=bool)
    truth[::7, 0] = True
    truth[:10, 1] = True  # in the first document alone
    (question,) = questions(labelled(truth))
    assert question.concepts.tolist() == [0]


def test_the_best_ids_are_the_best_of_all_sets_and_are_scored_elsewhere() -> None:
    random = np.random.default_rng(5)
    told = labelled(random.random((TOKENS, 1)) < 0.2)
    truth = random.random((TOKENS, 3)) < random.random((6, 3))[told.ids]
    (question,) = questions(told._replace(concepts=truth, in_question=np.ones_like(truth)))
    rules = list(chain.from_iterable(combinations(range(6), size) for size in range(1, 7)))
    ids = told.ids[question.chosen.rows]
    for place, held in enumerate(question.chosen.truth.T):
        best = np.flatnonzero(best_ids(ids, held, 6))
        reached = {rule: f1_of(np.isin(ids, rule), held) for rule in rules}
        assert reached[tuple(best.tolist())] == pytest.approx(max(reached.values()))
        rows, new = question.scored
        expected = f1_of(np.isin(told.ids[rows], best), new[:, place])
        assert token_f1(question, told.ids)[place] == pytest.approx(expected)
