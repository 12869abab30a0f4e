"""Features found by texts and vectors, over HTTP of the live worker, with planted features: one
that reads the token of a word, one that reads BOS."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from app.contract.search import FoundFeature, SearchAnswer
from app.errors import from_body
from app.store import activity, read, write
from tests.live.process import LiveProcess, put_evidence, sae_record
from tests.live.world import TEXTS, World
from tests.worker.tiny import save_sae
from worker.tokens import encode_text

WORD = " flour"
WITH = ["Two cups of flour", "The flour rose", "salt and flour and", "def flour(x)", "La flour 12"]
WITHOUT = ["Two cups of salt", "The old keeper", "one egg and", "def area(x)", "La mer 12"]

Search = Callable[..., SearchAnswer]


@pytest.fixture(scope="module")
def planted(
    live: LiveProcess, world: World, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, int]:
    """Tokens that feature 0 of an SAE reads, by SAE; these, another one and a layer of neurons have
    evidence."""
    folder = tmp_path_factory.mktemp("planted")
    tokens = {"0-word": encode_text(world.model, WORD, False)[-1], "0-bos": world.model.bos_id}
    embeddings = world.model.hf.get_input_embeddings().weight.detach()
    for sae, token in tokens.items():
        direction = torch.nn.functional.normalize(embeddings[token] - embeddings.mean(0), dim=0)
        hook = "blocks.0.hook_resid_pre"
        world.saes[sae] = save_sae(folder / sae, "standard", hook_name=hook, planted=direction)
    for sae in (*tokens, "1-mlp"):
        write.put_sae(live.shelf, sae_record(world, sae))
    for sae in (*tokens, "1-mlp", "1-topk"):
        put_evidence(live.shelf, world, sae)
    return tokens


@pytest.fixture
def search(live: LiveProcess, world: World, planted: dict[str, int]) -> Search:
    """Asks the worker for what must succeed."""

    def ask(**body: Any) -> SearchAnswer:
        answer = live.client.post("/search", json={"model": world.id, **body})
        assert answer.status_code == 200, answer.text
        return SearchAnswer.model_validate_json(answer.content, strict=True)

    return ask


def dense(live: LiveProcess, world: World, sae: str, texts: list[str]) -> list[np.ndarray]:
    """All activations [tokens, features] of texts, as the worker gives them column by column."""
    width = world.dictionary(sae).d_sae
    body = {"model": world.id, "saes": [sae], "texts": texts, "features": {sae: [*range(width)]}}
    results = live.post("/activations", body)["results"]
    columns = [result["saes"][sae]["features"] for result in results]
    return [np.maximum(np.array([c[str(i)] for i in range(width)]).T, 0) for c in columns]


def keys(found: list[FoundFeature]) -> list[tuple[str, int]]:
    return [(one.sae, one.index) for one in found]


def test_a_text_finds_the_feature_of_its_word(search: Search) -> None:
    answer = search(text="Two cups of flour, one egg", saes=["0-word"], limit=100)
    assert answer.tokens[0][0] == "<s>" and len(answer.tokens) == 1
    (own,) = (one for one in answer.features if one.index == 0)
    assert own.why.kind == "text"
    assert own.why.token == "ur" == answer.tokens[0][own.why.position]
    assert own.why.value == max(own.why.values)


def test_special_tokens_are_no_peak_and_their_values_are_told(search: Search) -> None:
    answer = search(text=TEXTS[0], saes=["0-bos"], limit=100)
    for one in answer.features:
        assert one.why.kind == "text" and one.why.position > 0
        assert one.why.value == max(one.why.values[1:])
    (own,) = (one.why for one in answer.features if one.index == 0)
    assert own.kind == "text" and own.values[0] > 2 * own.value


@pytest.mark.parametrize("saes", [["1-topk"], ["1-mlp"], ["1-mlp", "0-word", "1-topk"]])
def test_texts_are_ranked_by_their_peaks(
    search: Search, live: LiveProcess, world: World, saes: list[str]
) -> None:
    """Worked out anew from all activations and the feature list."""
    expected: dict[tuple[str, int], float] = {}
    for sae in saes:
        (values,) = dense(live, world, sae, [TEXTS[0]])
        stored = activity.served(live.shelf, world.id, sae)
        typical = np.median(stored.max_activation[stored.max_activation > 0])
        for feature in np.flatnonzero(values[1:].any(axis=0)).tolist():
            maximum = stored.max_activation[feature] or typical
            density = max(stored.density[feature], 1 / stored.corpus_tokens)
            closeness = min(1.0, values[1:, feature].max() / maximum)
            expected[sae, feature] = closeness * -np.log2(density)
    found = search(text=TEXTS[0], saes=saes, limit=100).features
    order = sorted(expected, key=lambda key: -expected[key])[:100]
    assert [one.score for one in found] == pytest.approx([expected[k] for k in order], rel=1e-4)
    assert [expected[key] for key in keys(found)] == pytest.approx(
        [one.score for one in found], rel=1e-4
    )
    rows = {sae: {r.index: r for r in read.features(live.shelf, world.id, sae, limit=100).items}
            for sae in saes}  # fmt: skip
    for one in found:
        row = rows[one.sae][one.index]
        told = one.label, one.density, one.max_activation
        assert told == (row.label, row.density, row.max_activation)


def test_a_contrast_finds_the_feature_of_the_word_first(search: Search) -> None:
    contrast = {"positive": WITH, "negative": WITHOUT, "over": "texts"}
    answer = search(contrast=contrast, saes=["0-word", "1-topk"])
    assert len(answer.tokens) == 10
    first, *others = answer.features
    assert (first.sae, first.index, first.score) == ("0-word", 0, 1.0)
    assert first.why.kind == "contrast"
    assert first.why.strongest_positive.token == "ur"
    assert first.why.mean_positive > 1 > first.why.mean_negative
    assert first.why.effect_size > 1.5 * max(
        one.why.effect_size for one in others if one.why.kind == "contrast"
    )
    turned = search(contrast={**contrast, "positive": WITHOUT, "negative": WITH})
    assert ("0-word", 0) not in keys(turned.features)


@pytest.mark.parametrize("over", ["tokens", "texts"])
def test_a_contrast_ranks_by_auroc_over_all_activations(
    search: Search, live: LiveProcess, world: World, over: str
) -> None:
    values = dense(live, world, "1-mlp", WITH[:3] + WITHOUT[:2])
    samples = [v[1:] if over == "tokens" else v[1:].max(0, keepdims=True) for v in values]
    positive, negative = np.concatenate(samples[:3]), np.concatenate(samples[3:])
    pairs = positive[:, None], negative[None]
    auroc = np.mean((pairs[0] > pairs[1]) + 0.5 * (pairs[0] == pairs[1]), axis=(0, 1))
    contrast = {"positive": WITH[:3], "negative": WITHOUT[:2], "over": over}
    found = search(contrast=contrast, saes=["1-mlp"], limit=100).features
    assert sorted(one.index for one in found) == np.flatnonzero(auroc > 0.5).tolist()
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.score == pytest.approx(auroc[one.index], abs=1e-12)
        assert one.why.kind == "contrast"
        assert one.why.mean_negative == pytest.approx(negative[:, one.index].mean(), rel=1e-4)


def test_a_vector_finds_what_points_its_way(search: Search, world: World) -> None:
    rows = world.sae_lens("1-topk").W_dec.detach()
    answer = search(vector=rows[17].tolist(), limit=3)
    assert answer.tokens == []
    first, *others = answer.features
    assert (first.sae, first.index) == ("1-topk", 17)
    assert first.score == pytest.approx(1, abs=1e-6)
    assert first.why.model_dump() == {"kind": "vector", "side": "decoder", "cosine": first.score}
    assert all(one.score < 1 for one in others)
    reads = world.sae_lens("0-word").W_enc.detach()[:, 5]
    assert keys(search(vector=reads.tolist(), side="encoder", limit=1).features) == [("0-word", 5)]


def test_bounds_on_density_come_before_the_limit(
    search: Search, live: LiveProcess, world: World
) -> None:
    stored = activity.served(live.shelf, world.id, "1-topk").density
    low, high = np.quantile(stored, [0.3, 0.6]).tolist()
    inside = np.flatnonzero((low <= stored) & (stored <= high)).tolist()
    bounds = {"density_min": low, "density_max": high, "saes": ["1-topk"], "limit": 100}
    by_vector = search(vector=[1.0] * 32, **bounds).features
    assert sorted(one.index for one in by_vector) == inside
    contrast = {"positive": WITH, "negative": WITHOUT}
    for question in ({"text": TEXTS[0]}, {"contrast": contrast}):
        free = search(**question, saes=["1-topk"], limit=100).features
        bound = search(**question, **bounds).features
        assert keys(bound) == [key for key in keys(free) if key[1] in inside]
        assert 0 < len(bound) < len(free)


CONTRAST = {"positive": ["x"], "negative": ["y"]}
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({}, 422, "exactly one of `text`, `contrast` and `vector`"),
    "two": ({"text": "x", "vector": [1.0]}, 422, "exactly one of"),
    "side of a text": ({"text": "x", "side": "encoder"}, 422, "`side` goes with `vector`"),
    "no model": ({"text": "x", "model": "nobody"}, 404, "no model 'nobody'"),
    "no sae": ({"text": "x", "saes": ["9-x"]}, 404, "no SAE '9-x'"),
    "no evidence": ({"text": "x", "saes": ["1-z"]}, 404, "submit a precompute job"),
    "empty text": ({"text": ""}, 422, "text has no tokens but special ones"),
    "special text": ({"text": "<s></s>"}, 422, "text has no tokens but special ones"),
    "empty texts": (
        {"contrast": CONTRAST | {"negative": ["y", ""]}},
        422,
        "contrast.negative[1] has no tokens but special ones",
    ),
    "no side": ({"contrast": CONTRAST | {"negative": []}}, 422, "contrast.negative"),
    "long text": ({"contrast": CONTRAST | {"positive": ["salt " * 80]}}, 422, "positive[0] has"),
    "much text": ({"contrast": CONTRAST | {"positive": ["The old"] * 9000}}, 413, "16384"),
    "width": ({"vector": [1.0, 2.0]}, 422, "vector has 2 numbers; on the decoder side the widths"),
    "zero": ({"vector": [0.0] * 32}, 422, "vector has no direction"),
    "limit": ({"text": "x", "limit": 0}, 422, "limit"),
    "no number": ({"vector": [float("nan")] * 32}, 422, "vector.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_a_status_and_a_sentence(
    live: LiveProcess, world: World, planted: dict[str, int], name: str
) -> None:
    body, status, sentence = REFUSED[name]
    response = live.client.post("/search", content=json.dumps({"model": world.id} | body))
    assert response.status_code == status, response.text
    problem = from_body(response.json())
    assert sentence in problem.detail and problem.detail.endswith(".")
