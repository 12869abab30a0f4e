"""Numbers that Neuronpedia's own server gives for GPT-2 and the SAEs `res-jb`, from its integration tests.

They need the model and the SAE of layer 7 and of layer 10 from the hub.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import Problem
from tests.api.server import ServerProcess
from tests.live.process import LiveProcess
from tests.live.world import World

pytestmark = [pytest.mark.hub, pytest.mark.timeout(900)]

HELLO = {"prompt": "Hello, world!", "model": "gpt2-small"}
BOS = "<|endoftext|>"
TOKENS = ["Hello", ",", " world", "!"]
PREFIX = "/inference/v1/"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The API and the live worker over GPT-2 with two of its SAEs."""
    try:
        world = fetched(tmp_path_factory.mktemp("gpt2"))
    except (OSError, Problem, RuntimeError, ValueError) as error:
        pytest.skip(f"GPT-2 and its SAEs are not to be had: {type(error).__name__}: {error}")
    live = LiveProcess(tmp_path_factory.mktemp("golden"), [world])
    server = ServerProcess(live.settings)
    try:
        live.start()
        yield server.start()
    finally:
        server.stop()
        live.stop()


def fetched(folder: Path) -> World:
    """GPT-2 as a folder of the hub's, SAEs as SAELens saves what it downloads."""
    from huggingface_hub import constants, snapshot_download
    from sae_lens import SAE

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    wanted = ["*.json", "*.safetensors", "merges.txt"]
    model = Path(snapshot_download("gpt2", allow_patterns=wanted, etag_timeout=5))
    saes = {}
    for layer in (7, 10):
        hook = f"blocks.{layer}.hook_resid_pre"
        sae = SAE.from_pretrained("gpt2-small-res-jb", hook)
        saes[f"{layer}-res-jb"] = folder / f"{layer}-res-jb"
        sae.save_model(saes[f"{layer}-res-jb"])
    return World("gpt2-small", model, saes)


def ask(server: ServerProcess, path: str, body: dict[str, Any], status: int = 200) -> Any:
    answer = server.client.post(PREFIX + path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def near(values: list[float]) -> Any:
    return pytest.approx(values, abs=0.1)


def test_all(gpt2: ServerProcess) -> None:
    body = HELLO | {"sourceSet": "res-jb", "selectedSources": ["7-res-jb"],
                    "sortByTokenIndexes": [], "numResults": 5, "ignoreBos": True}  # fmt: skip
    told = ask(gpt2, "activation/all", body)
    assert told["tokens"] == [BOS, *TOKENS]
    right = [
        (16653, [0, 46.4727, 11.2842, 0, 0], 1),
        (13715, [0, 43.2230, 5.3215, 0, 0], 1),
        (2494, [0, 3.0853, 33.5462, 15.5039, 15.7892], 2),
        (22763, [0, 0, 0, 26.6072, 0], 3),
        (13413, [0, 0, 0, 0, 24.9940], 4),
    ]
    assert len(told["activations"]) == len(right)
    for one, (index, values, place) in zip(told["activations"], right, strict=True):
        assert (one["source"], one["index"]) == ("7-res-jb", index)
        assert one["values"] == near(values) and one["maxValueIndex"] == place


TOPK = {
    "Hello": [(16653, 46.4813), (13715, 43.2195), (20750, 22.1398)],
    ",": [(2494, 33.5797), (1457, 19.7814), (15348, 14.1096)],
    " world": [(22763, 26.6266), (17362, 22.5299), (2494, 15.4879)],
    "!": [(13413, 25.0022), (21841, 17.1941), (2494, 15.7846)],
    BOS: [(9663, 941.3163), (14519, 631.7472), (8598, 608.9436)],
}


@pytest.mark.parametrize("ignore_bos", [True, False])
def test_topk_by_token(gpt2: ServerProcess, ignore_bos: bool) -> None:
    body = HELLO | {"source": "7-res-jb", "topK": 3, "ignoreBos": ignore_bos}
    told = ask(gpt2, "activation/topk-by-token", body)
    tokens = TOKENS if ignore_bos else [BOS, *TOKENS]
    assert told["tokens"] == tokens == [one["token"] for one in told["results"]]
    for one in told["results"]:
        features = [(f["featureIndex"], f["activationValue"]) for f in one["topFeatures"]]
        assert [index for index, _ in features] == [index for index, _ in TOPK[one["token"]]]
        tolerance = {"rel": 1e-3} if one["token"] == BOS else {"abs": 0.1}
        right = [value for _, value in TOPK[one["token"]]]
        assert [value for _, value in features] == pytest.approx(right, **tolerance)


def test_single(gpt2: ServerProcess) -> None:
    told = ask(gpt2, "activation/single", HELLO | {"source": "7-res-jb", "index": "0"})
    assert told["tokens"] == TOKENS and told["activation"]["maxValueIndex"] == 0
    assert told["activation"]["values"] == pytest.approx([0.05, 0, 0, 0], abs=0.03)
    vector = {"vector": [0.1] * 768, "hook": "blocks.0.hook_resid_post"}
    told = ask(gpt2, "activation/single", HELLO | vector)
    assert told["tokens"] == TOKENS and told["activation"]["maxValueIndex"] == 0
    assert told["activation"]["values"] == near([5.4141, 3.2383, 1.9463, 1.6719])


def test_batches(gpt2: ServerProcess) -> None:
    long = "When Mary and John went to the store, John gave a drink to Mary."
    body = {"model": "gpt2-small", "source": "7-res-jb", "index": "0"}
    batch = ask(gpt2, "activation/single-batch", body | {"prompts": [HELLO["prompt"], long] * 2})
    values = [one["activation"]["values"] for one in batch["results"]]
    alone = ask(gpt2, "activation/single", body | HELLO)["activation"]["values"]
    assert values[0] == pytest.approx(values[2], abs=1e-4) == pytest.approx(alone, abs=1e-4)


def test_cosines(gpt2: ServerProcess) -> None:
    feature = {"model": "gpt2-small", "source": "7-res-jb", "index": 5}
    body = {"model": "gpt2-small", "source": "7-res-jb", "numResults": 3}
    for query, right in (
        ({"feature": feature}, {5: 1.0, 15785: 0.6101891398, 9213: 0.5031709671}),
        ({"vector": [1.0] * 768}, {16087: 0.7319665551, 20434: 0.4019957781, 12002: 0.0581762716}),
    ):
        told = ask(gpt2, "util/sae-topk-by-decoder-cossim", body | query)
        found = told["topkDecoderCossimFeatures"]
        assert [one["feature"]["index"] for one in found] == [*right]
        assert [one["cosineSimilarity"] for one in found] == pytest.approx(
            [*right.values()], abs=1e-5
        )
    vector = ask(gpt2, "util/sae-vector", feature)
    assert len(vector["vector"]) == 768 and vector["hookName"] == "blocks.7.hook_resid_pre"
    right = [1.1268e-05, 0.130311, 0.0236556, 0.108352]
    assert vector["vector"][:4] == pytest.approx(right, abs=1e-4)


STEER = {
    "prompt": "Hello, world!", "model": "gpt2-small", "types": ["STEERED", "DEFAULT"],
    "normalizeSteering": False, "nCompletionTokens": 10, "temperature": 0, "seed": 42,
    "strengthMultiplier": 10, "freqPenalty": 0,
}  # fmt: skip
FEATURE = {"model": "gpt2-small", "source": "7-res-jb", "index": 5, "strength": 10}
VECTOR = {"steeringVector": [1000.0] * 768, "strength": 10, "hook": "blocks.7.hook_resid_post"}
DEFAULT = "\n\nI'm a programmer and I'm a"


@pytest.mark.parametrize(
    ("method", "target", "steered"),
    [
        ("SIMPLE_ADDITIVE", {"features": [FEATURE]}, " the world, the world, the world, the"),
        ("SIMPLE_ADDITIVE", {"vectors": [VECTOR]}, "!!!!!!!!!!"),
        ("ORTHOGONAL_DECOMP", {"features": [FEATURE]}, " Hy Hy Hy Hy Hy Hy Hy Hy Hy Hy"),
        ("ORTHOGONAL_DECOMP", {"vectors": [VECTOR]}, DEFAULT),
    ],
)
def test_steering(gpt2: ServerProcess, method: str, target: dict[str, Any], steered: str) -> None:
    told = ask(gpt2, "steer/completion", STEER | target | {"steerMethod": method})
    assert {one["type"]: one["output"] for one in told["outputs"]} == {
        "STEERED": steered,
        "DEFAULT": DEFAULT,
    }


def test_a_cat(gpt2: ServerProcess) -> None:
    cat = {"source": "10-res-jb", "index": "16899", "model": "gpt2-small"}
    told = ask(gpt2, "activation/single", cat | {"prompt": "My cat is sleeping on the couch."})
    activation = told["activation"]
    assert told["tokens"][activation["maxValueIndex"]] == " cat"
    assert 54.0 <= activation["maxValue"] <= 61.5
    body = STEER | {
        "prompt": "My favorite animal is", "steerMethod": "SIMPLE_ADDITIVE", "seed": 16,
        "strengthMultiplier": 1, "nCompletionTokens": 12,
        "features": [FEATURE | {"source": "10-res-jb", "index": 16899, "strength": 45}],
    }  # fmt: skip
    texts = {one["type"]: one["output"] for one in ask(gpt2, "steer/completion", body)["outputs"]}
    assert re.search("[Cc]at", texts["STEERED"]) and re.search("[Dd]og", texts["DEFAULT"])


def test_tokens_and_states(gpt2: ServerProcess) -> None:
    body = {"model": "gpt2-small", "text": "The quick brown fox", "prependBos": True}
    told = ask(gpt2, "tokenize", body)
    assert (told["tokens"][0], len(told["tokens"]), told["prependBos"]) == (50256, 5, True)
    told = ask(gpt2, "tokenize", body | {"prependBos": False})
    assert (len(told["tokens"]), told["prependBos"]) == (4, False)
    told = ask(gpt2, "activation/raw", {"prompts": ["Hello, world!"]})
    layers = told["results"][0]["activations"]
    assert [one["layer"] for one in layers] == list(range(12))
    assert {len(one["values"][0]) for one in layers} == {768}
    told = ask(gpt2, "activation/raw", {"prompts": ["Hello"], "layers": [5, 0, 5]})
    assert [one["layer"] for one in told["results"][0]["activations"]] == [0, 5]
    assert "12" in ask(gpt2, "activation/raw", {"prompts": ["x"], "layers": [0, 12]}, 400)["error"]


def test_errors(gpt2: ServerProcess) -> None:
    long = "This is a test prompt. " * 1000
    body = HELLO | {"source": "7-res-jb", "index": "0", "prompt": long}
    error = ask(gpt2, "activation/single", body, 400)["error"]
    assert error == "Text too long: 6002 tokens, max is 1024"
    chat = STEER | {"steerMethod": "SIMPLE_ADDITIVE", "features": [FEATURE],
                    "prompt": [{"role": "user", "content": "x"}], "steerSpecialTokens": False}  # fmt: skip
    told = ask(gpt2, "steer/completion-chat", chat, 400)
    assert "chat template" in told["error"] and "/v1/steer/completion" in told["error"]
    assert list(told) == ["error"]
