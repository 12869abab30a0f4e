"""Features found through the API process and the real live worker."""

from typing import Any

import httpx
import pytest
import torch

from app.contract.search import SearchAnswer
from app.store import write
from tests.api.server import ServerProcess
from tests.api.test_live import exact
from tests.api.test_problems import problem_of
from tests.live.process import LiveProcess, put_evidence, sae_record
from tests.live.world import World
from tests.worker.tiny import D_MODEL, save_sae
from worker.tokens import encode_text

WITH = ["Two cups of flour", "The flour rose", "salt and flour and"]
WITHOUT = ["Two cups of salt", "The old keeper", "one egg and"]


@pytest.fixture(scope="module")
def ask(
    server: ServerProcess,
    live: LiveProcess,
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
) -> httpx.Client:
    """Feature 0 of `0-flour` reads the last token of ` flour`."""
    token = encode_text(world.model, " flour", False)[-1]
    embeddings = world.model.hf.get_input_embeddings().weight.detach()
    direction = torch.nn.functional.normalize(embeddings[token] - embeddings.mean(0), dim=0)
    folder, hook = tmp_path_factory.mktemp("planted") / "sae", "blocks.0.hook_resid_pre"
    world.saes["0-flour"] = save_sae(folder, "standard", hook_name=hook, planted=direction)
    write.put_sae(live.shelf, sae_record(world, "0-flour"))
    put_evidence(live.shelf, world, "0-flour")
    return server.client


def found(ask: httpx.Client, world: World, **body: Any) -> dict[str, Any]:
    """The answer, in the documented shape."""
    return exact(SearchAnswer, ask.post("/v1/features/search", json={"model": world.id, **body}))


def test_a_contrast_finds_the_planted_feature(ask: httpx.Client, world: World) -> None:
    contrast = {"positive": WITH, "negative": WITHOUT, "over": "texts"}
    answer = found(ask, world, contrast=contrast)
    assert [len(tokens) > 2 for tokens in answer["tokens"]] == [True] * 6
    first = answer["features"][0]
    assert (first["sae"], first["index"], first["score"]) == ("0-flour", 0, 1.0)
    strongest = first["why"]["strongest_positive"]
    assert answer["tokens"][strongest["text"]][strongest["position"]] == strongest["token"] == "ur"


def test_a_text_finds_features_with_their_rows(ask: httpx.Client, world: World) -> None:
    answer = found(ask, world, text=WITH[0], saes=["0-flour", "1-post"], limit=100)
    (tokens,) = answer["tokens"]
    features = answer["features"]
    assert {one["sae"] for one in features} == {"0-flour", "1-post"}
    assert [one["score"] for one in features] == sorted(one["score"] for one in features)[::-1]
    assert all(len(one["why"]["values"]) == len(tokens) for one in features)
    for sae in ("0-flour", "1-post"):
        path = f"/v1/models/{world.id}/saes/{sae}/features?limit=100"
        rows = {row["index"]: row for row in ask.get(path).json()["items"]}
        for one in features:
            if one["sae"] == sae:
                row = rows[one["index"]]
                assert {name: one[name] for name in row} == row
    told = {(one["sae"], one["index"]): one["why"] for one in features}
    activations = ask.post("/v1/activations", json={
        "model": world.id, "saes": ["0-flour"], "texts": [WITH[0]], "features": {"0-flour": [0]},
    }).json()["results"][0]["saes"]["0-flour"]["features"]["0"]  # fmt: skip
    values = [max(value, 0) for value in activations]
    assert told["0-flour", 0]["values"] == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_a_decoder_row_finds_its_feature(ask: httpx.Client, world: World) -> None:
    row = world.sae_lens("1-post").W_dec[33].tolist()
    answer = found(ask, world, vector=row, limit=2)
    first, second = answer["features"]
    assert (first["sae"], first["index"]) == ("1-post", 33)
    assert first["score"] == pytest.approx(1, abs=1e-6) and second["score"] < 0.99
    assert answer["tokens"] == []


@pytest.mark.parametrize(("body", "status", "sentence"), [
    ({"text": "x", "model": "gpt5"}, 404, "There is no model 'gpt5'"),
    ({"text": "x", "saes": ["9-res"]}, 404, "has no SAE '9-res'"),
    ({"text": "x", "saes": ["1-z"]}, 404, "has no evidence yet; submit a precompute job"),
    ({"text": "x", "saes": ["2-mlp"]}, 404, "has no evidence yet; submit a precompute job"),
    ({"text": ""}, 422, "text has no tokens but special ones"),
    ({"contrast": {"positive": ["x"], "negative": ["<s>"]}}, 422, "contrast.negative[0] has no"),
    ({"vector": [1.0]}, 422, "vector has 1 numbers; on the decoder side the widths are"),
    ({"vector": [0.0] * D_MODEL}, 422, "vector has no direction: it is zero"),
])  # fmt: skip
def test_what_the_live_worker_refuses(
    ask: httpx.Client, world: World, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = ask.post("/v1/features/search", json={"model": world.id, **body})
    assert sentence in problem_of(answer, status)["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_vector_holds_numbers(ask: httpx.Client, world: World, number: str) -> None:
    content = f'{{"model": "{world.id}", "vector": [1.0, {number}]}}'
    headers = {"Content-Type": "application/json"}
    answer = ask.post("/v1/features/search", content=content, headers=headers)
    assert "The body is not JSON: " in problem_of(answer, 400)["detail"]
