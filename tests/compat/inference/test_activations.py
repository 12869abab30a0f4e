"""Activations as Neuronpedia's inference server tells them, against SAELens' own numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.compat.inference.conftest import Ask
from tests.live.test_capture import alone
from tests.live.world import KINDS, SITES, TEXTS, World
from tests.worker.tiny import D_MODEL
from worker.activations import capture
from worker.tokens import encode_text

VECTOR = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(7)).tolist()
SPELLED = "The <s>old keeper"


def shown(world: World, ids: list[int]) -> list[str]:
    from worker.models import vocabulary

    return [vocabulary(world.model).display[one] for one in ids]


def close(found: object, right: np.ndarray) -> bool:
    return bool(np.allclose(found, right, rtol=0, atol=1e-5 * max(1.0, np.abs(right).max())))


@pytest.mark.parametrize("sae", [f"1-{kind}" for kind in KINDS])
@pytest.mark.parametrize("text", [*TEXTS, SPELLED])
def test_single_is_the_column_of_the_folded_sae(
    ask: Ask, world: World, sae: str, text: str
) -> None:
    """Without the BOS in front, and 0 at those inside."""
    ids = encode_text(world.model, text)
    right = alone(world, ids, sae)[:, 7]
    right[np.array(ids) == world.model.bos_id] = 0
    body = {"prompt": text, "model": world.id, "source": sae, "index": "7"}
    told = ask("activation/single", body)
    assert list(told) == ["activation", "tokens", "tokensIsSpecial"]
    activation = told["activation"]
    assert list(activation) == [
        "values", "maxValue", "maxValueIndex", "dfaValues", "dfaMaxValue", "dfaTargetIndex"
    ]  # fmt: skip
    assert close(activation["values"], right[1:])
    assert activation["maxValue"] == max(activation["values"])
    assert activation["maxValueIndex"] == activation["values"].index(activation["maxValue"])
    assert (
        activation["dfaValues"] is activation["dfaMaxValue"] is activation["dfaTargetIndex"] is None
    )
    assert told["tokens"] == shown(world, ids)[1:]
    assert told["tokensIsSpecial"] == [one in world.model.special_ids for one in ids[1:]]


@pytest.mark.parametrize("text", [TEXTS[0], "<s>salt"])
def test_single_of_a_vector(ask: Ask, world: World, text: str) -> None:
    """As this tokenizer reads the text, all of it: without BOS but where it is spelled."""
    ids = encode_text(world.model, text, prepend_bos=False)
    states = capture(world.model, torch.tensor([ids]), [SITES["post"]])[SITES["post"]][0].numpy()
    body = {"prompt": text, "model": world.id, "vector": VECTOR, "hook": SITES["post"]}
    told = ask("activation/single", body)
    assert close(told["activation"]["values"], states @ np.array(VECTOR, np.float32))
    assert told["tokens"] == shown(world, ids)


@pytest.mark.parametrize(
    "own", [{"source": "1-topk", "index": "3"}, {"vector": VECTOR, "hook": SITES["post"]}]
)
def test_a_batch_is_its_texts(ask: Ask, world: World, own: dict[str, Any]) -> None:
    prompts = [TEXTS[0], TEXTS[2], TEXTS[0]]
    body = {"model": world.id, **own}
    results = ask("activation/single-batch", {**body, "prompts": prompts})["results"]
    assert results[0] == results[2]
    for prompt, told in zip(prompts, results, strict=True):
        single = ask("activation/single", {**body, "prompt": prompt})
        assert told["tokens"] == single["tokens"]
        assert close(told["activation"]["values"], np.array(single["activation"]["values"]))


def everything(world: World, **fields: Any) -> dict[str, Any]:
    asked = {
        "prompt": TEXTS[0],
        "model": world.id,
        "sourceSet": "jumprelu",
        "selectedSources": [],
        "sortByTokenIndexes": [],
        "ignoreBos": True,
        "numResults": 6,
    }
    return asked | fields


@pytest.mark.parametrize("ignore_bos", [True, False])
@pytest.mark.parametrize("at", [[], [2, 3]])
@pytest.mark.parametrize("sources", [[], ["1-standard", "1-jumprelu"]])
def test_all_is_the_brute_force(
    ask: Ask, world: World, ignore_bos: bool, at: list[int], sources: list[str]
) -> None:
    body = everything(world, selectedSources=sources, sortByTokenIndexes=at, ignoreBos=ignore_bos)
    told = ask("activation/all", body)
    ids = encode_text(world.model, TEXTS[0])
    assert list(told) == ["activations", "tokens", "counts"]
    assert told["tokens"] == shown(world, ids) and told["counts"] is None
    names = sources or ["1-jumprelu"]
    dense = {name: alone(world, ids, name) for name in names}
    for values in dense.values():
        values[0] *= not ignore_bos
    scores = {name: v[at].sum(0) if at else v.max(0) for name, v in dense.items()}
    order = sorted(
        (-score, names.index(name), index, name)
        for name, own in scores.items()
        for index, score in enumerate(own)
        if score > 0
    )[:6]
    assert [(one["source"], one["index"]) for one in told["activations"]] == [
        (name, index) for _, _, index, name in order
    ]
    for one, (score, *_) in zip(told["activations"], order, strict=True):
        right = dense[one["source"]][:, one["index"]]
        assert close(one["values"], right)
        assert one["maxValue"] == max(one["values"])
        assert one["maxValueIndex"] == one["values"].index(one["maxValue"])
        assert close(one["sumValues"], np.array(-score if at else 0.0))
        assert one["dfaValues"] is one["dfaTargetIndex"] is one["dfaMaxValue"] is None


def test_features_that_are_not_active_are_left_out(ask: Ask, world: World) -> None:
    body = everything(world, prompt="x", sourceSet="topk", numResults=1000)
    told = ask("activation/all", body)["activations"]
    right = alone(world, encode_text(world.model, "x"), "1-topk")[1:]
    assert len(told) == (right.max(0) > 0).sum() < right.shape[1]
    assert ask("activation/all", {**body, "numResults": None})["activations"] == told[:25]


def test_a_batch_of_all_ranks_each_text(ask: Ask, world: World) -> None:
    body = everything(world)
    body.pop("prompt")
    prompts = [TEXTS[1], TEXTS[0], TEXTS[1]]
    results = ask("activation/all-batch", {**body, "prompts": prompts})["results"]
    assert results[0] == results[2]
    for prompt, told in zip(prompts, results, strict=True):
        single = ask("activation/all", {**body, "prompt": prompt})
        assert told["tokens"] == single["tokens"]
        assert [one["index"] for one in told["activations"]] == [
            one["index"] for one in single["activations"]
        ]


def test_neurons_are_a_set(ask: Ask, world: World) -> None:
    """Of all layers; their negative values count as 0."""
    body = everything(world, sourceSet="mlp", numResults=20)
    told = ask("activation/all", body)["activations"]
    ids = torch.tensor([encode_text(world.model, TEXTS[0])])
    hooks = [f"blocks.{layer}.mlp.hook_post" for layer in range(3)]
    states = [capture(world.model, ids, [hook])[hook][0].numpy() for hook in hooks]
    scores = np.concatenate([state[1:].max(0) for state in states])
    assert close([one["maxValue"] for one in told], np.sort(scores)[::-1][:20])
    for one in told:
        values = np.maximum(states[int(one["source"][0])][:, one["index"]], 0)
        assert close(one["values"][1:], values[1:])


@pytest.mark.parametrize("ignore_bos", [True, False])
@pytest.mark.parametrize("top_k", [None, 3, 0])
def test_topk_by_token(ask: Ask, world: World, ignore_bos: bool, top_k: int | None) -> None:
    body = {"prompt": SPELLED, "model": world.id, "source": "1-standard", "ignoreBos": ignore_bos}
    told = ask("activation/topk-by-token", body | {"topK": top_k})
    ids, begin = encode_text(world.model, SPELLED), int(ignore_bos)
    dense = alone(world, ids, "1-standard")
    count = 5 if top_k is None else max(1, top_k)
    assert told["tokens"] == shown(world, ids)[begin:]
    assert [one["tokenPosition"] for one in told["results"]] == list(range(begin, len(ids)))
    for one in told["results"]:
        own = dense[one["tokenPosition"]]
        order = [index for index in np.argsort(-own, kind="stable")[:count] if own[index] > 0]
        assert [feature["featureIndex"] for feature in one["topFeatures"]] == order
        assert close([feature["activationValue"] for feature in one["topFeatures"]], own[order])
        assert one["token"] == shown(world, ids)[one["tokenPosition"]]
        assert one["isSpecial"] == (ids[one["tokenPosition"]] in world.model.special_ids)
    batch = {key: value for key, value in body.items() if key != "prompt"} | {"topK": top_k}
    results = ask("activation/topk-by-token-batch", batch | {"prompts": [SPELLED] * 2})["results"]
    assert [one["tokens"] for one in results] == [told["tokens"]] * 2
    assert results[0] == results[1]


def test_source_is_everything_that_is_active(ask: Ask, world: World) -> None:
    prompts = list(TEXTS[:4])
    body = {"prompts": prompts, "model": world.id, "source": "1-standard"}
    for prompt, told in zip(prompts, ask("activation/source", body)["results"], strict=True):
        ids = encode_text(world.model, prompt)
        right = alone(world, ids, "1-standard")
        assert told["tokens"] == shown(world, ids)
        found = np.zeros_like(right)
        for feature, entries in told["activeFeatures"].items():
            assert [place for place, _ in entries] == sorted(place for place, _ in entries)
            for place, value in entries:
                assert place > 0 and value == round(value, 3)
                found[place, int(feature)] = value
        assert np.abs(found[1:] - right[1:]).max() <= 0.00051
        assert ((found[1:] > 0) == (right[1:] > 0.0005)).all()


@pytest.mark.parametrize("layers", [None, [], [2, 0, 2]])
def test_raw_is_the_residual_stream_of_the_last_token(
    ask: Ask, world: World, layers: list[int] | None
) -> None:
    told = ask("activation/raw", {"prompts": list(TEXTS), "model": world.id, "layers": layers})
    assert (told["hookPoint"], told["type"]) == ("residual_stream", "final_output_token")
    assert (told["dtype"], told["device"]) == ("float32", "cpu")
    for text, own in zip(TEXTS, told["results"], strict=True):
        ids = encode_text(world.model, text)
        assert own["tokenIds"] == ids and own["tokenStrings"] == shown(world, ids)
        assert [one["layer"] for one in own["activations"]] == ([0, 2] if layers else [0, 1, 2])
        for one in own["activations"]:
            hook = f"blocks.{one['layer']}.hook_resid_post"
            right = capture(world.model, torch.tensor([ids]), [hook])[hook][0, -1].numpy()
            (values,) = one["values"]
            assert one["tokenIndices"] == [len(ids) - 1] and close(values, right)


def test_fields_may_be_in_snake_case_and_unknown_ones_are_left_alone(
    ask: Ask, world: World
) -> None:
    camel = everything(world)
    snake = {
        "prompt": camel["prompt"], "model": world.id, "source_set": "jumprelu",
        "selected_sources": [], "sort_by_token_indexes": [], "ignore_bos": True,
        "num_results": 6, "whatever": 3,
    }  # fmt: skip
    assert ask("activation/all", snake) == ask("activation/all", camel)


def test_sae_vector_is_the_folded_column(ask: Ask, world: World) -> None:
    sae = world.sae_lens("1-jumprelu")
    sae.fold_W_dec_norm()
    told = ask("util/sae-vector", {"model": world.id, "source": "1-jumprelu", "index": 5})
    assert close(told["vector"], sae.W_enc[:, 5].detach().numpy())
    assert told["hookName"] == SITES["post"]


def test_features_that_write_alike(ask: Ask, world: World) -> None:
    rows = world.sae_lens("1-topk").W_dec.detach()
    feature = {"model": world.id, "source": "1-topk", "index": 5}
    body = {"model": world.id, "source": "1-topk", "numResults": 4}
    for query, direction in (
        ({"feature": feature}, rows[5]),
        ({"vector": VECTOR}, torch.tensor(VECTOR)),
    ):
        told = ask("util/sae-topk-by-decoder-cossim", body | query)
        right = torch.nn.functional.cosine_similarity(rows, direction[None])
        best = right.topk(4)
        found = told["topkDecoderCossimFeatures"]
        assert [one["feature"]["index"] for one in found] == best.indices.tolist()
        assert [one["cosineSimilarity"] for one in found] == pytest.approx(
            best.values.tolist(), abs=1e-6
        )
        assert {one["feature"]["source"] for one in found} == {"1-topk"}
        assert told["feature"] == query.get("feature")
    assert found[0]["feature"]["model"] == world.id
    asked = body | {"feature": feature, "numResults": 500}
    assert len(ask("util/sae-topk-by-decoder-cossim", asked)["topkDecoderCossimFeatures"]) == 96
    asked = body | {"feature": feature, "numResults": -3}
    assert len(ask("util/sae-topk-by-decoder-cossim", asked)["topkDecoderCossimFeatures"]) == 1
    other = ask("util/sae-topk-by-decoder-cossim", body | {"source": "1-post", "feature": feature})
    assert {one["feature"]["source"] for one in other["topkDecoderCossimFeatures"]} == {"1-post"}
