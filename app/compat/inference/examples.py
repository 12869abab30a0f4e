"""Examples of the OpenAPI document, which run on the bundled model as they are."""

from typing import Any

from fastapi.openapi.models import Example

from app.contract.bundled import BUNDLED_AXIS, BUNDLED_MODEL, BUNDLED_SAES

_MODEL = {"model": BUNDLED_MODEL}
_SAE = {**_MODEL, "source": BUNDLED_SAES[0]}
_PROMPT = {"prompt": "The old sailor was happy to see the lighthouse."}
BATCH = {"prompts": ["Two cups of flour and one egg.", "The storm came at night."]}
SINGLE = {**_PROMPT, **_SAE, "index": "12"}
VECTOR = {**_PROMPT, **_MODEL, "vector": BUNDLED_AXIS, "hook": "blocks.2.hook_resid_post"}
ALL = {
    **_PROMPT,
    **_MODEL,
    "sourceSet": "res-topk",
    "selectedSources": [],
    "sortByTokenIndexes": [],
    "ignoreBos": True,
    "numResults": 5,
}
SORTED = {**ALL, "selectedSources": [BUNDLED_SAES[0]], "sortByTokenIndexes": [3]}
TOPK = {**_PROMPT, **_SAE, "topK": 3, "ignoreBos": True}
SOURCE = {**_SAE, **BATCH}
RAW = {**_MODEL, **BATCH, "layers": [0, 2]}
SAE_VECTOR = {**_SAE, "index": 12}
COSSIM = {**_SAE, "feature": SAE_VECTOR, "numResults": 5}
COSSIM_VECTOR = {**_SAE, "vector": BUNDLED_AXIS, "numResults": 5}
TOKENIZE = {**_MODEL, "text": "The old sailor", "prependBos": True}
TEMPLATE = {
    "model": "my-chat-model",
    "messages": [{"role": "user", "content": "Who lives by the sea?"}],
}
_STEER = {
    **_MODEL,
    "steerMethod": "SIMPLE_ADDITIVE",
    "normalizeSteering": False,
    "types": ["STEERED", "DEFAULT"],
    "nCompletionTokens": 24,
    "temperature": 0,
    "strengthMultiplier": 1,
    "freqPenalty": 0,
    "seed": 16,
}
_FEATURES = {"features": [{**SAE_VECTOR, "strength": 4}]}
STEER = {**_STEER, **_FEATURES, "prompt": "The old sailor"}
STEER_VECTOR = {
    **_STEER,
    "prompt": "The old sailor",
    "vectors": [
        {"steeringVector": BUNDLED_AXIS, "strength": 8, "hook": "blocks.2.hook_resid_post"}
    ],
}
STEER_DELTAS = {**STEER, "stream": True, "streamFormat": "delta", "nLogprobs": 2}
STEER_CHAT = {
    **_STEER,
    "model": "my-chat-model",
    "features": [{"model": "my-chat-model", "source": "2-res", "index": 12, "strength": 4}],
    "prompt": [{"role": "user", "content": "Who lives by the sea?"}],
    "steerSpecialTokens": False,
}


def batched(example: dict[str, Any]) -> dict[str, Any]:
    """The same for two texts."""
    return {name: value for name, value in example.items() if name != "prompt"} | BATCH


def shown(examples: dict[str, dict[str, Any]]) -> dict[str, Example]:
    """By what they show."""
    return {name.lower(): {"summary": name, "value": value} for name, value in examples.items()}
