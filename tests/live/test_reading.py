"""What other services' clients read, over HTTP of the live worker, against SAELens' own numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from app.contract import reading as wire
from app.errors import from_body
from app.store import activity, write
from tests.live.process import LiveProcess, put_evidence, register, sae_record
from tests.live.test_capture import alone
from tests.live.world import KINDS, SITES, TEXTS, World
from tests.worker.tiny import D_MODEL, bpe_tokenizer, save_model, save_sae
from worker.activations import capture
from worker.tokens import encode_text

DIRECTION = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(4)).tolist()
BOS_INSIDE = "The old<s> keeper"


@pytest.fixture(scope="module")
def evident(live: LiveProcess, world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Evidence for two SAEs and a layer of neurons; one SAE that has no encoder."""
    folder = tmp_path_factory.mktemp("pursuit")
    world.saes["1-pursuit"] = save_sae(folder, "matching_pursuit")
    for sae in ("1-pursuit", "1-mlp"):
        write.put_sae(live.shelf, sae_record(world, sae))
    for sae in ("1-jumprelu", "1-topk", "1-mlp"):
        put_evidence(live.shelf, world, sae)


def dense(world: World, ids: list[int], sae: str) -> np.ndarray:
    """All activations [t, d_sae] of a text, in folded units."""
    if not sae.endswith("-mlp"):
        return alone(world, ids, sae)
    return state(world, ids, world.dictionary(sae).hook_name)


def state(world: World, ids: list[int], hook: str) -> np.ndarray:
    """All states [t, w] of a text."""
    return capture(world.model, torch.tensor([ids]), [hook])[hook][0].numpy()


def close(found: object, right: np.ndarray) -> bool:
    return bool(np.allclose(found, right, rtol=0, atol=1e-5 * max(1.0, np.abs(right).max())))


def body(world: World, **fields: Any) -> dict[str, Any]:
    return {"model": world.id, "texts": list(TEXTS), **fields}


@pytest.mark.parametrize("sae", [*(f"1-{kind}" for kind in KINDS), "1-act", "2-mlp"])
def test_values_of_a_feature(live: LiveProcess, world: World, sae: str) -> None:
    texts = [*TEXTS, BOS_INSIDE]
    told = live.post("/values", body(world, texts=texts, sae=sae, feature=7))
    for text, own in zip(texts, wire.ValuesAnswer.model_validate(told).results, strict=True):
        ids = encode_text(world.model, text)
        right = dense(world, ids, sae)[:, 7]
        right[np.array(ids) == world.model.bos_id] = 0
        assert close(own.values, right)
        assert own.begins_with_bos and own.tokens[0] == "<s>" and own.special[0]
        assert own.special == [one in world.model.special_ids for one in ids]
    assert own.tokens.count("<s>") == 2 and own.values[own.tokens.index("<s>", 1)] == 0


def test_values_of_a_vector_are_dot_products(live: LiveProcess, world: World) -> None:
    """On the text as the tokenizer reads it: this one puts no BOS in front."""
    hook = SITES["post"]
    told = live.post("/values", body(world, hook=hook, vector=DIRECTION))
    for text, own in zip(TEXTS, wire.ValuesAnswer.model_validate(told).results, strict=True):
        ids = encode_text(world.model, text, prepend_bos=False)
        assert not own.begins_with_bos and len(own.tokens) == len(ids)
        assert close(own.values, state(world, ids, hook) @ np.array(DIRECTION, np.float32))


def test_a_vector_is_read_with_bos_where_the_tokenizer_puts_one(
    live: LiveProcess, tmp_path: Path
) -> None:
    """And told there as it is."""
    tokenizer = bpe_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    one = World("prepends", save_model(tmp_path / "m", tokenizer=tokenizer), {})
    register(live.shelf, one)
    told = live.post("/values", body(one, hook=SITES["post"], vector=DIRECTION))
    for text, own in zip(TEXTS, wire.ValuesAnswer.model_validate(told).results, strict=True):
        ids = encode_text(one.model, text)
        assert own.begins_with_bos and len(own.tokens) == len(ids) and own.values[0] != 0
        assert close(own.values, state(one, ids, SITES["post"]) @ np.array(DIRECTION, np.float32))


@pytest.mark.parametrize("sae", ["1-topk", "1-standard", "2-mlp"])
@pytest.mark.parametrize("top_k", [None, 3, 10_000])
def test_what_is_active(live: LiveProcess, world: World, sae: str, top_k: int | None) -> None:
    told = live.post("/active", body(world, sae=sae, top_k=top_k))
    for text, own in zip(TEXTS, wire.ActiveAnswer.model_validate(told).results, strict=True):
        right = dense(world, encode_text(world.model, text), sae)
        assert len(own.top) == len(right) == len(own.special)
        for found, values in zip(own.top, right, strict=True):
            order = np.argsort(-values, kind="stable")[: (values > 0).sum()][:top_k]
            assert close([one.value for one in found], values[order])
            assert close(values[[one.feature for one in found]], values[order])


def ranked(rows: dict[str, np.ndarray], at: list[int], limit: int) -> list[tuple[str, int, float]]:
    """By brute force, from all values [t, d_sae] by SAE."""
    found = []
    for place, (sae, values) in enumerate(rows.items()):
        scores = values[at].sum(0) if at else values.max(0)
        found += [(-score, place, index, sae) for index, score in enumerate(scores) if score > 0]
    return [(sae, index, -score) for score, _, index, sae in sorted(found)[:limit]]


SAES = [["1-topk"], ["1-mlp"], ["1-jumprelu", "1-topk", "1-mlp", "1-abstopk"]]


@pytest.mark.parametrize("saes", SAES)
@pytest.mark.parametrize("at", [[], [1], [1, 0, 1]])
@pytest.mark.parametrize("skip_bos", [True, False])
def test_features_are_ranked_as_by_brute_force(
    live: LiveProcess, world: World, evident: None, saes: list[str], at: list[int], skip_bos: bool
) -> None:
    asked = body(world, texts=[*TEXTS, BOS_INSIDE], saes=saes, at=at, skip_bos=skip_bos, limit=9)
    told = wire.RankAnswer.model_validate(live.post("/rank", asked))
    for text, own in zip(asked["texts"], told.results, strict=True):
        ids = encode_text(world.model, text)
        rows = {sae: np.maximum(dense(world, ids, sae), 0) for sae in saes}
        if skip_bos:
            for values in rows.values():
                values[np.array(ids) == world.model.bos_id] = 0
        right = ranked(rows, at, 9)
        assert close([one.score for one in own.features], np.array([score for *_, score in right]))
        scores = [values[at].sum(0) if at else values.max(0) for values in rows.values()]
        for one in own.features:
            assert close(one.score, scores[saes.index(one.sae)][one.feature])
            assert close(one.values, rows[one.sae][:, one.feature])
        keys = [(-one.score, saes.index(one.sae), one.feature) for one in own.features]
        assert keys == sorted(keys)


def test_only_features_that_rarely_fire_are_ranked(
    live: LiveProcess, world: World, evident: None
) -> None:
    """None of an SAE without evidence, whose densities nobody knows."""
    density = activity.served(live.shelf, world.id, "1-jumprelu").density
    bound = float(np.median(density))
    asked = body(world, texts=TEXTS[:1], saes=["1-jumprelu", "1-standard", "2-mlp"], skip_bos=True)
    free = live.post("/rank", asked | {"limit": 500})["results"][0]["features"]
    bounded = live.post("/rank", asked | {"limit": 500, "density_max": bound})["results"][0]
    kept = [one for one in free if one["sae"] == "1-jumprelu" and density[one["feature"]] <= bound]
    assert bounded["features"] == kept
    assert 0 < len(kept) < len([one for one in free if one["sae"] == "1-jumprelu"])
    assert {one["sae"] for one in free} == {"1-jumprelu", "1-standard", "2-mlp"}


@pytest.mark.parametrize("limit", [1, 3])
def test_ties_go_to_the_earlier_sae_and_the_lower_index(
    live: LiveProcess, world: World, tmp_path: Path, limit: int
) -> None:
    """Two SAEs of which features 3 to 6 have the same weights."""
    for name in ("0-twin-a", "0-twin-b"):
        sae = world.sae_lens("1-standard")
        for part in (sae.W_enc.data.T, sae.W_dec.data, sae.b_enc.data):
            part[3:7] = part[40]
        sae.b_enc.data[3:7] = 50.0
        folder = tmp_path / f"{name}-{limit}"
        sae.save_model(folder)
        world.saes[f"{name}-{limit}"] = folder
        write.put_sae(live.shelf, sae_record(world, f"{name}-{limit}"))
    saes = [f"0-twin-b-{limit}", f"0-twin-a-{limit}"]
    asked = body(world, texts=["x"], saes=saes, at=[1], skip_bos=True, limit=limit + 4)
    found = live.post("/rank", asked)["results"][0]["features"]
    right = [(saes[0], one) for one in (3, 4, 5, 6)] + [(saes[1], one) for one in (3, 4, 5)]
    assert [(one["sae"], one["feature"]) for one in found] == right[: limit + 4]


def test_states_of_the_last_token(live: LiveProcess, world: World) -> None:
    hooks = [SITES["post"], SITES["act"], SITES["pre"], SITES["post"]]
    told = wire.StatesAnswer.model_validate(live.post("/states", body(world, hooks=hooks)))
    assert (told.dtype, told.device) == ("float32", "cpu")
    for text, own in zip(TEXTS, told.results, strict=True):
        ids = encode_text(world.model, text)
        assert own.ids == ids and len(own.tokens) == len(ids)
        assert [one.hook for one in own.states] == hooks[:3]
        for one in own.states:
            assert close(one.state, state(world, ids, one.hook)[-1])


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk", "transcoder"])
def test_directions_are_those_of_the_folded_sae(
    live: LiveProcess, world: World, architecture: str
) -> None:
    sae = world.sae_lens(f"1-{architecture}")
    gain = sae.r_mag[5].exp().item() if architecture == "gated" else 1.0
    if architecture == "topk":  # SAELens ranks by unfolded activations and refuses to fold
        sae.cfg.rescale_acts_by_decoder_norm = True
    sae.fold_W_dec_norm()
    asked = {"model": world.id, "sae": f"1-{architecture}", "feature": 5}
    reads = wire.DirectionAnswer.model_validate(
        live.post("/direction", asked | {"side": "encoder"})
    )
    writes = wire.DirectionAnswer.model_validate(
        live.post("/direction", asked | {"side": "decoder"})
    )
    assert close(reads.vector, sae.W_enc[:, 5].detach().numpy() * gain)
    assert close(writes.vector, sae.W_dec[5].detach().numpy())
    assert reads.hook == SITES["pre" if architecture == "transcoder" else "post"]
    assert writes.hook == ("blocks.1.hook_mlp_out" if architecture == "transcoder" else reads.hook)


@pytest.mark.parametrize("architecture", ["standard", "topk", "gated"])
def test_an_activation_grows_along_what_the_encoder_reads(world: World, architecture: str) -> None:
    """By the dictionary's own encode, where the feature is active."""
    dictionary = world.dictionary(f"1-{architecture}")
    column = dictionary.reads(5)
    assert column is not None
    at = 40 * column[None] / column.norm()
    values = [dictionary.encode(at * size)[0, 5] for size in (1.0, 2.0)]
    assert float(values[1] - values[0]) == pytest.approx(float(at[0] @ column), rel=1e-4)


def test_directions_of_neurons_are_axes(live: LiveProcess, world: World) -> None:
    for side in ("encoder", "decoder"):
        asked = {"model": world.id, "sae": "1-mlp", "feature": 5, "side": side}
        told = live.post("/direction", asked)
        assert told["hook"] == "blocks.1.mlp.hook_post"
        assert np.flatnonzero(told["vector"]).tolist() == [5] and told["vector"][5] == 1


def test_cosines_are_those_of_decoder_rows(live: LiveProcess, world: World) -> None:
    rows = world.sae_lens("1-standard").W_dec.detach()
    asked = {"model": world.id, "sae": "1-standard", "limit": 7}
    queries = {
        "own": ({"of": "1-standard", "feature": 9}, rows[9]),
        "other": ({"of": "1-topk", "feature": 9}, world.sae_lens("1-topk").W_dec.detach()[9]),
        "vector": ({"vector": [1e30 * one for one in DIRECTION]}, torch.tensor(DIRECTION)),
    }
    for name, (query, direction) in queries.items():
        found = live.post("/cosines", asked | query)["features"]
        right = torch.nn.functional.cosine_similarity(rows, direction[None]).numpy()
        order = np.argsort(-right, kind="stable")[:7]
        assert [one["feature"] for one in found] == order.tolist(), name
        assert np.allclose([one["cosine"] for one in found], right[order], atol=1e-6)
    first = live.post("/cosines", asked | queries["own"][0] | {"limit": 1})["features"]
    assert first == [{"feature": 9, "cosine": pytest.approx(1, abs=1e-6)}]
    everything = live.post("/cosines", asked | queries["own"][0] | {"limit": 1_000})["features"]
    assert len(everything) == len(rows)


def test_equal_cosines_are_in_the_order_of_indices(live: LiveProcess, world: World) -> None:
    vector = [0.0] * 48
    vector[20] = vector[4] = vector[31] = 1.0
    found = live.post("/cosines", {"model": world.id, "sae": "1-mlp", "vector": vector, "limit": 5})
    assert [one["feature"] for one in found["features"]] == [4, 20, 31, 0, 1]


@pytest.fixture
def talker(live: LiveProcess, tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """Makes models with a chat template."""

    def made(template: str) -> World:
        tokenizer = bpe_tokenizer()
        tokenizer.chat_template = template
        folder = save_model(tmp_path / "m", tokenizer=tokenizer)
        one = World(f"talker-{tmp_path.name}".replace("[", "-").replace("]", ""), folder, {})
        register(live.shelf, one)
        return one

    yield made


TRIMMED = (
    "<s>{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}{% if mood %}({{ mood }}){% endif %}"
)


@pytest.mark.parametrize(
    "contents",
    [
        ("Hello", "user", "the old"),
        ("", " x ", "é學🙂"),
        ("</user>", "<", "\n"),
        ("<x", "</", "a</user"),
    ],
)
def test_a_conversation_is_rendered_and_told_apart(
    live: LiveProcess, talker: Callable[[str], World], contents: tuple[str, ...]
) -> None:
    one = talker(TRIMMED)
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    asked = {"model": one.id, "messages": messages, "places": True}
    told = wire.RenderAnswer.model_validate(live.post("/render", asked))
    blocks = [f"<{r}>{c.strip()}</{r}>\n" for r, c in zip(roles, contents, strict=True)]
    assert told.text == "<s>" + "".join(blocks) + "<model>"
    assert told.ids == encode_text(one.model, told.text, prepend_bos=False)
    assert told.places is not None and len(told.places) == len(told.ids) == len(told.tokens)
    tokenizer, whole = one.model.tokenizer, []
    for place, (content, block) in enumerate(zip(contents, blocks, strict=True)):
        own = [i for i, at in enumerate(told.places) if at.message == place]
        assert own == list(range(own[0], own[-1] + 1))
        decoded = tokenizer.decode([told.ids[i] for i in own])
        assert decoded == block if place else decoded == "<s>" + block
        inner = [told.ids[i] for i in own if told.places[i].section == "content"]
        assert tokenizer.decode(inner) == content.strip()
        whole += own
    after = [one for i, one in enumerate(told.places) if i not in whole]
    assert after and all((one.message, one.section) == (None, "header") for one in after)


def test_options_are_variables_of_the_template(
    live: LiveProcess, talker: Callable[[str], World]
) -> None:
    one = talker(TRIMMED)
    asked = {"model": one.id, "messages": [{"role": "user", "content": "x"}], "generate": False}
    assert live.post("/render", asked)["text"] == "<s><user>x</user>\n"
    told = live.post("/render", asked | {"options": {"mood": "glad"}})
    assert told["text"] == "<s><user>x</user>\n(glad)" and "places" not in told
    for name in ("chat_template", "tokenize", "messages", "conversations"):
        refused = live.client.post("/render", json=asked | {"options": {name: "x"}})
        assert refused.status_code == 422 and f"options holds {name}" in refused.text


def test_a_template_without_end_is_ended_and_others_are_answered(
    live: LiveProcess, talker: Callable[[str], World]
) -> None:
    """Each loop may have many rounds; three in each other take years."""
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    one = talker(loops)
    asked = {"model": one.id, "messages": [{"role": "user", "content": "x"}], "generate": False}
    told = live.client.post("/render", json=asked)
    assert told.status_code == 422 and "takes longer than" in told.text
    steered = {"model": one.id, "messages": asked["messages"], "interventions": []}
    assert live.client.post("/steer", json=steered).status_code == 422


def test_what_a_template_refuses_is_told(live: LiveProcess, llama: World) -> None:
    asked = {"model": llama.id, "messages": [{"role": "system", "content": "x"}]}
    refused = live.client.post("/render", json=asked)
    assert refused.status_code == 422 and "no system messages" in refused.text
    asked["messages"] = [{"role": "user", "content": "salt"}]
    assert live.post("/render", asked)["text"] == "<s><user> salt\n<assistant>"


VALUES = {"sae": "1-topk", "feature": 1}
VECTOR = {"hook": SITES["post"], "vector": [1.0] * D_MODEL}
RANK = {"saes": ["1-topk"], "skip_bos": True, "limit": 5}
NEAR = {"sae": "1-topk", "texts": None, "limit": 5}
TURN = {"texts": None, "messages": [{"role": "user", "content": "x"}]}
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no texts": ("/values", VALUES | {"texts": []}, 422, "at least one text"),
    "no target": ("/values", {}, 422, "either sae and feature, or hook and vector"),
    "half a target": ("/values", {"sae": "1-topk", "vector": [1.0]}, 422, "either sae"),
    "two targets": ("/values", VALUES | VECTOR, 422, "either sae and feature"),
    "feature": ("/values", VALUES | {"feature": 96}, 422, "0 to 95"),
    "no sae": ("/values", VALUES | {"sae": "9-x"}, 404, "no SAE '9-x'"),
    "no model": ("/values", VALUES | {"model": "nobody"}, 404, "no model 'nobody'"),
    "hook": ("/values", VECTOR | {"hook": "nowhere"}, 422, "no hook point nowhere"),
    "width": ("/values", VECTOR | {"vector": [1.0]}, 422, "vector has 1 numbers"),
    "too long": ("/values", VALUES | {"texts": ["salt " * 80]}, 422, "reads 64 at most"),
    "32 bits": ("/values", VECTOR | {"vector": [1e39] * D_MODEL}, 422, "finite 32-bit numbers"),
    "overflow": ("/values", VECTOR | {"vector": [3e38] * D_MODEL}, 422, "are not finite"),
    "top_k": ("/active", {"sae": "1-topk", "top_k": 0}, 422, "at least 1"),
    "many texts": ("/active", {"sae": "1-topk", "texts": ["The old"] * 9000}, 413, "16384"),
    "no saes": ("/rank", RANK | {"saes": []}, 422, "saes is empty"),
    "limit": ("/rank", RANK | {"limit": 0}, 422, "limit is 0"),
    "at": ("/rank", RANK | {"texts": ["x"], "at": [0, 2]}, 422, "at holds 2; texts[0] has 2 tokens"),
    "at below 0": ("/rank", RANK | {"at": [-1]}, 422, "at holds -1"),
    "much at": ("/rank", RANK | {"at": [0] * 20_000}, 413, "at has 20000 places"),
    "bos": ("/rank", RANK | {"saes": ["1-topk", "1-plain"]}, 422, "Some of these SAEs"),
    "no hooks": ("/states", {"hooks": []}, 422, "hooks is empty"),
    "no such hook": ("/states", {"hooks": ["embed"]}, 422, "no hook point embed"),
    "no encoder": (
        "/direction",
        {"sae": "1-pursuit", "feature": 1, "side": "encoder", "texts": None},
        422,
        "matching pursuit",
    ),
    "no feature": ("/direction", {"sae": "1-topk", "feature": -1, "side": "decoder"}, 422, "0 to 95"),
    "two queries": ("/cosines", NEAR | {"of": "1-topk", "feature": 1, "vector": [1.0]}, 422, "Give"),
    "half a query": ("/cosines", NEAR | {"feature": 1}, 422, "either of and feature"),
    "cosine width": ("/cosines", NEAR | {"vector": [1.0]}, 422, "1-topk write 32"),
    "no direction": ("/cosines", NEAR | {"vector": [0.0] * D_MODEL}, 422, "no direction"),
    "narrower": ("/cosines", NEAR | {"of": "1-act", "feature": 1}, 422, "vector has 48 numbers"),
    "cosine limit": ("/cosines", NEAR | {"vector": [1.0] * 32, "limit": 0}, 422, "limit is 0"),
    "no messages": ("/render", TURN | {"messages": []}, 422, "messages is empty"),
    "no template": ("/render", TURN, 422, "has no chat template"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(live: LiveProcess, world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An SAE that was trained without BOS."""
    folder = tmp_path_factory.mktemp("plain")
    world.saes["1-plain"] = save_sae(
        folder, hook_name=SITES["post"], metadata={"prepend_bos": False}
    )
    write.put_sae(live.shelf, sae_record(world, "1-plain"))


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_a_status_and_a_sentence(
    live: LiveProcess, world: World, evident: None, plain: None, name: str
) -> None:
    path, fields, status, sentence = REFUSED[name]
    content = json.dumps({"model": world.id, "texts": ["x"]} | fields)
    response = live.client.post(path, content=content)
    assert response.status_code == status, response.text
    problem = from_body(response.json())
    assert sentence in problem.detail and problem.detail.endswith(".")


def test_texts_that_are_too_long_say_by_how_much(live: LiveProcess, world: World) -> None:
    for path, fields in (
        ("/values", VALUES),
        ("/rank", RANK),
        ("/states", {"hooks": [SITES["post"]]}),
    ):
        asked = body(world, texts=["x", "salt " * 80]) | fields
        told = live.client.post(path, json=asked).json()
        assert (told["tokens"], told["limit"]) == (len(encode_text(world.model, "salt " * 80)), 64)
        told = live.client.post(path, json=asked | {"texts": ["x"] * 9_000}).json()
        assert (told["status"], told["tokens"], told["limit"]) == (413, 16_386, 16_384)
