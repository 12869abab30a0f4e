"""What fires on new text, by Neuronpedia's own client, against SAELens' numbers."""

from typing import Any

import httpx
import numpy as np
import pytest
import torch
from neuronpedia.requests.activation_request import ActivationRequest
from neuronpedia.requests.source_activation_request import SourceActivationRequest
from neuronpedia.requests.topk_by_token_request import TopKByTokenRequest

from app.store import vectors
from tests.live.process import LiveProcess
from tests.live.test_reading import close, dense, ranked, state
from tests.live.world import SITES, TEXTS, World
from tests.worker.tiny import D_MODEL
from worker.tokens import encode_text

VECTOR = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(8)).double().numpy()
ACTIVATIONS = ActivationRequest, SourceActivationRequest, TopKByTokenRequest


def ids_of(world: World, text: str) -> list[int]:
    return encode_text(world.model, text)


def asked(world: World, **fields: Any) -> dict[str, Any]:
    return {"modelId": world.id, "source": "1-topk", **fields}


def test_a_feature_on_a_text(api: httpx.Client, world: World) -> None:
    told = ActivationRequest().compute_activation_for_text(world.id, "1-topk", "7", TEXTS[0])
    right = dense(world, ids_of(world, TEXTS[0]), "1-topk")[1:, 7]
    assert close(told.values, right) and len(told.tokens) == len(right)
    assert "".join(told.tokens).strip() == TEXTS[0]


def test_a_feature_on_texts(api: httpx.Client, world: World) -> None:
    texts = list(TEXTS[:4])
    told = ActivationRequest().compute_activation_for_texts(world.id, "1-post", "3", texts)
    for text, own in zip(texts, told, strict=True):
        assert close(own.values, dense(world, ids_of(world, text), "1-post")[1:, 3])


def test_the_row_of_a_tested_feature(api: httpx.Client, world: World) -> None:
    body = {"neuron": {"modelId": world.id, "layer": "1-topk", "index": "7"}}
    told = api.post("/api/activation/new", json={**body, "customText": TEXTS[1]}).json()
    assert (told["modelId"], told["layer"], told["index"]) == (world.id, "1-topk", "7")
    assert told["maxValue"] == max(told["values"]) == told["values"][told["maxValueTokenIndex"]]
    assert told["minValue"] == min(told["values"]) and told["dataIndex"] is None


@pytest.mark.parametrize("ignore_bos", [False, True])
def test_a_vector_on_a_text(
    api: httpx.Client, live: LiveProcess, world: World, ignore_bos: bool
) -> None:
    source = vectors.source_of(1, "post")
    made = vectors.new(live.shelf, "me", world.id, source, "x", SITES["post"], 10, VECTOR)
    feature = {"modelId": world.id, "source": source, "index": str(made.number)}
    body = {"feature": feature, "customText": TEXTS[0], "ignoreBos": ignore_bos}
    told = api.post("/api/activation/new", json=body).json()
    ids = encode_text(world.model, TEXTS[0], prepend_bos=False)  # as its tokenizer reads a text
    assert close(told["values"], state(world, ids, SITES["post"]) @ VECTOR.astype(np.float32))


@pytest.mark.parametrize("sae", ["1-topk", "1-standard"])
def test_all_that_fires(api: httpx.Client, world: World, sae: str) -> None:
    texts = list(TEXTS[:3])
    told = ActivationRequest().compute_all_source_activations_for_text(world.id, sae, texts)
    for text, own in zip(texts, told, strict=True):
        right = dense(world, ids_of(world, text), sae)
        assert len(own["tokens"]) == len(right)
        right[0] = 0
        found = np.zeros_like(right)
        for feature, entries in own["activeFeatures"].items():
            for place, value in entries:
                assert value == round(value, 3)
                found[place, int(feature)] = value
        assert np.abs(found - right).max() <= 5.1e-4
        n_active = sum(map(len, own["activeFeatures"].values()))
        assert n_active == (right > 0).sum() > 0


@pytest.mark.parametrize("at", [[], [2], [3, 1]])
def test_the_most_active_features_of_a_text(api: httpx.Client, world: World, at: list[int]) -> None:
    told = SourceActivationRequest().compute_top_features_for_text(
        world.id,
        "1-topk",
        TEXTS[0],
        num_results=7,
        sort_results_by_activations_at_token_indexes=at,
    )
    rows = {"1-topk": dense(world, ids_of(world, TEXTS[0]), "1-topk")}
    rows["1-topk"][0] = 0
    right = ranked(rows, sorted(at), 7)
    assert [(one.source, int(one.index)) for one in told] == [(sae, i) for sae, i, _ in right]
    for one in told:
        assert close(one.values, rows["1-topk"][:, int(one.index)])


def test_the_most_active_features_come_with_their_pages(api: httpx.Client, world: World) -> None:
    body = {"modelId": world.id, "sourceSet": "topk", "text": TEXTS[0], "sortIndexes": []}
    told = api.post("/api/search-all/", json={**body, "selectedLayers": []}).json()
    assert len(told["result"]) > 5
    for one in told["result"]:
        assert one["maxValue"] == max(one["values"]) == one["values"][one["maxValueIndex"]]
        page = api.get(f"/api/feature/{world.id}/1-topk/{one['index']}").json()
        neuron = one["neuron"]
        assert neuron["activations"] == page["activations"][:1]
        assert neuron["explanations"] == page["explanations"]
        assert neuron["model"]["id"] == world.id
        assert neuron["maxActApprox"] == page["maxActApprox"]
    bound = float(np.median([one["neuron"]["frac_nonzero"] for one in told["result"]]))
    few = api.post("/api/search-all", json={**body, "densityThreshold": bound}).json()["result"]
    kept = [one["index"] for one in told["result"] if one["neuron"]["frac_nonzero"] <= bound]
    assert 0 < len(kept) < len(told["result"])
    assert [one["index"] for one in few][: len(kept)] == kept


def test_an_sae_without_evidence_is_searched_too(api: httpx.Client, world: World) -> None:
    body = {"modelId": world.id, "sourceSet": "standard", "text": TEXTS[0], "numResults": 3}
    told = api.post("/api/search-all", json=body).json()["result"]
    assert len(told) == 3 and all("neuron" not in one for one in told)
    assert (
        api.post("/api/search-all", json={**body, "densityThreshold": 0.9}).json()["result"] == []
    )


def test_several_texts_are_searched_at_once(api: httpx.Client, world: World) -> None:
    texts = list(TEXTS[:3])
    told = SourceActivationRequest().compute_top_features_for_texts(world.id, "1-post", texts)
    for text, own in zip(texts, told, strict=True):
        alone = SourceActivationRequest().compute_top_features_for_text(world.id, "1-post", text)
        assert [(one.index, one.tokens) for one in own] == [(a.index, a.tokens) for a in alone]
        for one, other in zip(own, alone, strict=True):
            assert close(one.values, np.array(other.values))


def test_the_strongest_features_of_every_token(api: httpx.Client, world: World) -> None:
    told = TopKByTokenRequest().compute_top_features_by_token_for_text(world.id, "1-topk", TEXTS[0])
    right = dense(world, ids_of(world, TEXTS[0]), "1-topk")
    assert [one.position for one in told] == [*range(1, len(right))]
    for one in told:
        values = right[one.position]
        order = np.argsort(-values, kind="stable")[: (values > 0).sum()][:5]
        assert [top.feature.index for top in one.topFeatures] == order.tolist()
        assert close([top.activationValue for top in one.topFeatures], values[order])


def test_only_rare_features_of_every_token(api: httpx.Client, world: World) -> None:
    body = asked(world, text=TEXTS[0], numResults=20, ignoreBos=False)
    everything = api.post("/api/search-topk-by-token", json={**body, "densityThreshold": 0}).json()
    tops = [one for row in everything["results"] for one in row["topFeatures"]]
    bound = float(np.median([one["feature"]["frac_nonzero"] for one in tops]))
    rare = api.post("/api/search-topk-by-token", json={**body, "densityThreshold": bound}).json()
    assert everything["source"] == "1-topk" and everything["results"][0]["isSpecial"]
    dropped = 0
    for all_, few in zip(everything["results"], rare["results"], strict=True):
        kept = [one for one in all_["topFeatures"] if 0 < one["feature"]["frac_nonzero"] <= bound]
        assert few["topFeatures"] == kept
        dropped += len(all_["topFeatures"]) - len(kept)
        for one in all_["topFeatures"]:
            assert one["feature"]["index"] == str(one["featureIndex"])
            assert one["feature"]["activations"] == []
    assert dropped and any(row["topFeatures"] for row in rare["results"])


def test_every_token_of_several_texts(api: httpx.Client, world: World) -> None:
    texts = list(TEXTS[:2])
    told = TopKByTokenRequest().compute_top_features_by_token_for_texts(
        world.id, "1-topk", texts, num_results=5
    )
    for text, own in zip(texts, told, strict=True):
        alone = TopKByTokenRequest().compute_top_features_by_token_for_text(
            world.id, "1-topk", text
        )
        assert [one.token for one in own] == [one.token for one in alone]
        for one, other in zip(own, alone, strict=True):
            assert [t.feature.index for t in one.topFeatures] == [
                t.feature.index for t in other.topFeatures
            ]


def test_tokens_of_a_text(api: httpx.Client, world: World) -> None:
    body = {"modelId": world.id, "prompt": TEXTS[0]}
    told = api.post("/api/tokenize", json=body).json()
    assert told["tokens"] == ids_of(world, TEXTS[0]) and told["prependBos"]
    assert len(told["tokenStrings"]) == len(told["tokens"])
    bare = api.post("/api/tokenize", json={**body, "prependBos": False}).json()
    assert bare == {
        "tokens": told["tokens"][1:],
        "tokenStrings": told["tokenStrings"][1:],
        "prependBos": False,
    }


def test_features_that_write_alike(
    api: httpx.Client, live: LiveProcess, world: World, llama: World
) -> None:
    body = asked(world, index="7", targetModelId=world.id, targetSourceId="1-standard")
    told = api.post("/api/cossim", json=body).json()
    assert told["feature"] == {"model": world.id, "source": "1-topk", "index": 7}
    assert alike(told) == nearest(world, "1-standard", unit(world, "1-topk")[7])
    itself = api.post("/api/cossim", json={**body, "targetSourceId": "1-topk"}).json()
    assert alike(itself)[0] == (7, 1.0)
    other = {**body, "targetModelId": llama.id}
    assert alike(api.post("/api/cossim", json=other).json()) == nearest(
        llama, "1-standard", unit(world, "1-topk")[7]
    )
    source = vectors.source_of(0, "pre")
    made = vectors.new(live.shelf, "me", world.id, source, "x", SITES["pre"], 10, VECTOR)
    by_vector = {**body, "source": source, "index": made.number}
    told = api.post("/api/cossim", json=by_vector).json()
    assert told["feature"] is None
    direction = VECTOR / np.linalg.norm(VECTOR)
    assert alike(told) == nearest(world, "1-standard", direction.astype(np.float32))


def unit(world: World, sae: str) -> np.ndarray:
    rows = world.sae_lens(sae).W_dec.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(world: World, sae: str, direction: np.ndarray) -> list[tuple[int, float]]:
    cosine = unit(world, sae) @ direction
    order = np.argsort(-cosine, kind="stable")[:10]
    return [(int(index), round(float(cosine[index]), 5)) for index in order]


def alike(told: dict[str, Any]) -> list[tuple[int, float]]:
    return [
        (one["feature"]["index"], round(one["cosineSimilarity"], 5))
        for one in told["topkDecoderCossimFeatures"]
    ]
