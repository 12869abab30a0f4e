"""What people copy from a page: the same request from a shell and from Python."""

import json
from dataclasses import dataclass
from typing import Any

STEERED: dict[str, Any] = {"prompt": "Once upon a time", "max_new_tokens": 30}


@dataclass(frozen=True)
class Snippets:
    """Text to copy."""

    curl: str
    python: str


def of_feature(base: str, model: str, sae: str, index: int, steers: bool) -> Snippets:
    """Look the feature up, and steer with it, where that can be done."""
    url = base.rstrip("/")
    lookup = f"{url}/v1/models/{model}/saes/{sae}/features/{index}"
    steering = [{"sae": sae, "feature": index, "strength": 1.0}]
    body = {"model": model, **STEERED, "steering": steering}
    curl = f"curl -s '{lookup}'"
    python = f'import httpx\n\nfeature = httpx.get("{lookup}").json()'
    if not steers:
        return Snippets(curl, python)
    curl += (
        f"\ncurl -s '{url}/v1/steer' -H 'content-type: application/json' -d '{json.dumps(body)}'"
    )
    python += (
        f'\nanswer = httpx.post("{url}/v1/steer", json={body!r}, timeout=60).json()\n'
        'print(answer["steered"]["text"])'
    )
    return Snippets(curl, python)
