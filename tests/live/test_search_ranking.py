"""Ranking by texts, against the plainest computation over dense values."""

import numpy as np
import pytest

from app.contract.search import Over, SearchRequest
from app.store.activity import Activity
from worker.live.search.contrast import Differences, rank_by_difference
from worker.live.search.ranking import best
from worker.live.search.text import Peaks, rank_by_peak
from worker.live.search.texts import Texts
from worker.live.search.vector import rank_by_cosine
from worker.live.strongest import Strongest

WIDTH = 40
LENGTHS = (5, 9, 1, 7, 4, 11, 6)


def sparse(dense: np.ndarray) -> Strongest:
    """What is active on a text [tokens, features], as captures list it."""
    token, feature = np.nonzero(dense > 0)
    value = dense[token, feature]
    order = np.lexsort((feature, -value, token))
    token = token[order]
    rank = np.arange(len(token)) - np.searchsorted(token, token)
    return Strongest(token, feature[order], value[order], rank)


def line(lengths: tuple[int, ...], n_positive: int) -> Texts:
    """Texts of these lengths, each with a special token in front."""
    tokens = [["<s>", *(f"{text}.{at}" for at in range(1, n))] for text, n in enumerate(lengths)]
    special = np.concatenate([np.arange(n) == 0 for n in lengths])
    return Texts(tokens, special, n_positive)


def drawn(seed: int, lengths: tuple[int, ...], share: float = 0.3) -> list[np.ndarray]:
    """Values with many ties, by text; feature 0 is active at special tokens alone."""
    random = np.random.default_rng(seed)
    found = []
    for n in lengths:
        dense = random.integers(1, 6, (n, WIDTH)) / 3 * (random.random((n, WIDTH)) < share)
        dense[:, 0], dense[0, 0] = 0, 9
        found.append(dense.astype(np.float32))
    return found


def sides(dense: list[np.ndarray], n_positive: int, over: Over) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative samples [n, features], dense, without special tokens."""
    counted = [text[1:].astype(np.float64) for text in dense]
    if over == "texts":
        counted = [text.max(axis=0, keepdims=True, initial=0) for text in counted]
    return np.concatenate(counted[:n_positive]), np.concatenate(counted[n_positive:])


def ranked(dense: list[np.ndarray], n_positive: int, over: Over) -> Differences:
    texts = line(tuple(map(len, dense)), n_positive)
    return rank_by_difference(texts, [sparse(text) for text in dense], over)


@pytest.mark.parametrize("over", ["tokens", "texts"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_auroc_and_effect_size_equal_brute_force(over: Over, seed: int, share: float) -> None:
    lengths = tuple(n + 1 for n in LENGTHS)
    dense = drawn(seed, lengths, share)
    positive, negative = sides(dense, 3, over)
    pairs = positive[:, None], negative[None]
    auroc = np.mean((pairs[0] > pairs[1]) + 0.5 * (pairs[0] == pairs[1]), axis=(0, 1))
    squares = sum(((side - side.mean(0)) ** 2).sum(0) for side in (positive, negative))
    s = np.sqrt(squares / (len(positive) + len(negative) - 2))
    active = (positive > 0).any(0) | (negative > 0).any(0)
    effect = (positive.mean(0) - negative.mean(0)) / (s + np.median(s[active]))
    found = ranked(dense, 3, over)
    assert found.feature.tolist() == np.flatnonzero(auroc > 0.5).tolist()
    kept = found.feature
    assert np.allclose(found.score, auroc[kept], rtol=0, atol=1e-12)
    assert np.allclose(found.second, effect[kept], rtol=1e-9)
    for i, side in enumerate((positive, negative)):
        assert np.allclose(found.mean[:, i], side.mean(0)[kept], rtol=1e-12)
        assert np.allclose(found.active[:, i], (side > 0).mean(0)[kept], rtol=1e-12)


@pytest.mark.parametrize("over", ["tokens", "texts"])
def test_the_strongest_token_of_each_side_is_named(over: Over) -> None:
    dense = drawn(0, LENGTHS)
    found = ranked(dense, 4, over)
    assert len(found.feature) > 5
    for row, feature in enumerate(found.feature.tolist()):
        why = found.why(row)
        for name, own in (("positive", range(4)), ("negative", range(4, 7))):
            spots = [(-dense[t][p, feature], t, p) for t in own for p in range(1, LENGTHS[t])]
            value, text, position = min(spots)
            expected = {"text": text, "position": position, "token": f"{text}.{position}",
                        "value": -value}  # fmt: skip
            assert why[f"strongest_{name}"] == (expected if value else None)


def test_one_text_a_side_is_ranked_by_how_far_apart_they_are() -> None:
    dense = [np.zeros((3, WIDTH), np.float32) for _ in range(2)]
    dense[0][1, [3, 4, 5]] = 2.0, 0.01, 1.0
    dense[1][2, [5, 6]] = 0.5, 3.0
    found = ranked(dense, 1, "texts")
    assert found.feature.tolist() == [3, 4, 5]
    assert found.score.tolist() == [1.0, 1.0, 1.0]
    assert np.all(np.isfinite(found.second))
    assert np.argsort(-found.second).tolist() == [0, 2, 1]


def test_even_and_faint_activations_do_not_win() -> None:
    """They have the largest difference in standard deviations, if nothing is added to these."""
    random = np.random.default_rng(0)
    dense = [random.random((6, WIDTH)).astype(np.float32) for _ in range(8)]
    for i, text in enumerate(dense):
        text[:, 7] = 1e-4 * (i < 4)
        text[:, 8] = 2.0 * (i < 4) + random.random(6) / 10
    found = ranked(dense, 4, "tokens")
    by_feature = dict(zip(found.feature.tolist(), found.second.tolist(), strict=True))
    assert by_feature[7] < 0.01
    assert by_feature[8] == max(by_feature.values()) > 5


@pytest.mark.parametrize("over", ["tokens", "texts"])
def test_texts_that_are_equal_or_silent_have_no_difference(over: Over) -> None:
    (text,) = drawn(1, (8,))
    assert len(ranked([text, text], 1, over).feature) == 0
    silent = np.zeros((4, WIDTH), np.float32)
    assert len(ranked([silent, silent, silent], 2, over).feature) == 0


def activity(density: np.ndarray, maximum: np.ndarray) -> Activity:
    return Activity("run", 1, "f", 1_000_000, density.astype(float), maximum.astype(float))


def peaks(dense: np.ndarray, density: np.ndarray, maximum: np.ndarray) -> Peaks:
    return rank_by_peak(line((len(dense),), 1), sparse(dense), activity(density, maximum))


def test_peaks_are_scored_by_closeness_times_surprise() -> None:
    random = np.random.default_rng(3)
    (dense,) = drawn(3, (12,))
    density, maximum = random.uniform(0.001, 1, WIDTH), random.uniform(2, 9, WIDTH)
    found = peaks(dense, density, maximum)
    counted = dense[1:]
    assert found.feature.tolist() == np.flatnonzero(counted.any(0)).tolist()
    for row, feature in enumerate(found.feature.tolist()):
        why = found.why(row)
        position = 1 + int(counted[:, feature].argmax())
        assert why["position"] == position and why["token"] == f"0.{position}"
        assert why["value"] == dense[position, feature]
        assert why["values"].tolist() == dense[:, feature].tolist()
        score = why["value"] / maximum[feature] * -np.log2(density[feature])
        assert found.score[row] == pytest.approx(score, rel=1e-6)


def test_special_tokens_are_no_peak() -> None:
    dense = np.zeros((4, WIDTH), np.float32)
    dense[0, [0, 1]], dense[2, 1] = 50.0, 0.5
    found = peaks(dense, np.full(WIDTH, 0.01), np.ones(WIDTH))
    assert found.feature.tolist() == [1]
    assert found.why(0)["values"].tolist() == [50.0, 0.0, 0.5, 0.0]
    assert (found.why(0)["value"], found.why(0)["position"]) == (0.5, 2)


def test_no_more_than_its_own_best_counts() -> None:
    dense = np.zeros((3, WIDTH), np.float32)
    dense[1, 2] = 8.0
    found = peaks(dense, np.full(WIDTH, 0.25), np.full(WIDTH, 0.001))
    assert found.score.tolist() == [2.0]


def test_what_never_fired_counts_as_once_and_is_compared_with_a_usual_maximum() -> None:
    dense = np.zeros((3, WIDTH), np.float32)
    dense[1, [2, 3]] = 1.0, 40.0
    density, maximum = np.full(WIDTH, 0.01), np.full(WIDTH, 4.0)
    density[[2, 3]] = maximum[[2, 3]] = 0
    found = peaks(dense, density, maximum)
    bits = np.log2(1_000_000)
    assert found.score == pytest.approx([bits / 4, bits])
    none_fired = peaks(dense, np.zeros(WIDTH), np.zeros(WIDTH))
    assert none_fired.score == pytest.approx([bits, bits])


def test_the_best_of_several_saes_within_bounds_ties_by_sae_then_index() -> None:
    scores = {"b": np.array([1, 3, 2, 3.0]), "a": np.array([3, 0, 2, 9.0]), "c": np.zeros(0)}
    rankings = {sae: rank_by_cosine(score, "decoder") for sae, score in scores.items()}
    density = np.array([0.1, 0.2, 0.3, 0.4])
    sources = {sae: activity(density, density) for sae in scores}

    def found(**bounds: float) -> list[tuple[str, int]]:
        request = SearchRequest(model="m", vector=[1.0], **bounds)
        return [tuple(hit) for hit in best(rankings, sources, request)]

    everything = [("a", 3), ("a", 0), ("b", 1), ("b", 3), ("a", 2), ("b", 2), ("b", 0), ("a", 1)]
    assert found() == everything
    for limit in range(1, 9):
        assert found(limit=limit) == everything[:limit]
    assert found(density_min=0.2, density_max=0.3) == [("b", 1), ("a", 2), ("b", 2), ("a", 1)]
    assert found(density_max=0.3, limit=1) == [("a", 0)]
    assert found(density_min=0.5) == []
