"""What is wrong with a request about text is said in both of Neuronpedia's fields."""

from typing import Any

import httpx
import pytest

from tests.live.process import LiveProcess
from tests.live.world import World

NEW, SOURCE = "/api/activation/new", "/api/activation/source"
ALL, TOKENS = "/api/search-all", "/api/search-topk-by-token"
COSSIM, TOKENIZE = "/api/cossim", "/api/tokenize"
FEATURE = {"modelId": "M", "source": "1-topk", "index": "3"}
SET = {"modelId": "M", "sourceSet": "topk", "text": "x"}
SAE = {"modelId": "M", "source": "1-topk", "text": "x"}
ALIKE = {**FEATURE, "targetModelId": "M", "targetSourceId": "1-post"}

CASES: dict[str, tuple[str, Any, int, str]] = {
    "no feature": (NEW, {"customText": "x"}, 400, "give the feature"),
    "no text": (NEW, {"feature": FEATURE}, 400, "customText: a value is required"),
    "empty text": (NEW, {"feature": FEATURE, "customText": ""}, 400, "a list of 1 to 4 texts"),
    "no texts": (SOURCE, {**SAE, "customText": []}, 400, "a list of 1 to 4 texts"),
    "many texts": (SOURCE, {**SAE, "customText": ["x"] * 5}, 400, "a list of 1 to 4 texts"),
    "a number": (SOURCE, {**SAE, "customText": 5}, 400, "a list of 1 to 4 texts"),
    "long text": (SOURCE, {**SAE, "customText": ["x", "x" * 50_001]}, 400, "at most 50,000"),
    "many tokens": (SOURCE, {**SAE, "customText": "a b " * 900}, 400, "tokens"),
    "no model": (NEW, {"feature": {**FEATURE, "modelId": "gpt5"}, "customText": "x"}, 404, "gpt5"),
    "no source": (SOURCE, {**SAE, "source": "9-none", "customText": "x"}, 404, "9-none"),
    "large index": (NEW, {"feature": {**FEATURE, "index": "999999"}, "customText": "x"}, 400, "99"),
    "no vector": (
        NEW,
        {"feature": {**FEATURE, "source": "1-neuronpedia-resid-pre"}, "customText": "x"},
        404,
        "There is no vector 3",
    ),
    "only BOS": (NEW, {"feature": FEATURE, "customText": "<s>"}, 400, "no tokens but BOS"),
    "no set": (ALL, {**SET, "sourceSet": "none"}, 404, "no set of SAEs 'none'"),
    "another set's": (ALL, {**SET, "selectedLayers": ["1-post"]}, 404, "no SAE of the set 'topk'"),
    "a late token": (ALL, {**SET, "sortIndexes": [99]}, 400, "at holds 99"),
    "early": (ALL, {**SET, "sortIndexes": [-1]}, 400, "sortIndexes.0"),
    "many results": (ALL, {**SET, "numResults": 101}, 400, "at most 100"),
    "a density": (ALL, {**SET, "densityThreshold": 1}, 400, "above 0 and below 1"),
    "a negative density": (TOKENS, {**SAE, "densityThreshold": -0.5}, 400, "above 0 and below 1"),
    "many at a token": (TOKENS, {**SAE, "numResults": 21}, 400, "at most 20"),
    "none at a token": (TOKENS, {**SAE, "numResults": 0}, 400, "at least 1"),
    "no target": (COSSIM, FEATURE, 400, "targetModelId"),
    "strange target": (COSSIM, {**ALIKE, "targetSourceId": "9-none"}, 404, "9-none"),
    "strange feature": (COSSIM, {**ALIKE, "index": 10**6}, 400, "1000000"),
    "other widths": (COSSIM, {**ALIKE, "targetSourceId": "1-act"}, 400, "1-act"),
    "no prompt": (TOKENIZE, {"modelId": "M", "prompt": ""}, 400, "at least 1"),
    "long prompt": (TOKENIZE, {"modelId": "M", "prompt": "x" * 10_001}, 400, "at most 10000"),
}  # fmt: skip


def named(body: Any, world: World) -> Any:
    """The body with the model's id in the place of M."""
    if isinstance(body, dict):
        return {key: named(value, world) for key, value in body.items()}
    return world.id if body == "M" else body


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(
    api: httpx.Client, live: LiveProcess, world: World, case: str
) -> None:
    path, body, status, says = CASES[case]
    told = api.post(path, json=named(body, world))
    assert told.status_code == status, told.text
    error = told.json()
    assert set(error) == {"error", "message"} and error["error"] == error["message"]
    assert says in error["error"]
