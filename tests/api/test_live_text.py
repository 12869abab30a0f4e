"""Text that is hard to pass on, through the API process and the real live worker."""

import json
from pathlib import Path

import pytest

from tests.api.server import ServerProcess, events_of
from tests.live.process import LiveProcess, register
from tests.live.world import World
from tests.worker.tiny import bpe_tokenizer, save_model

BREAKS = "a\u2028b\u2029c\x85d"
"""Line breaks for Unicode that are none in JSON, NDJSON and server-sent events."""


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory, live: LiveProcess) -> World:
    """A model one of whose tokens is `BREAKS`."""
    tokenizer = bpe_tokenizer()
    tokenizer.add_tokens([BREAKS])
    folder: Path = tmp_path_factory.mktemp("breaking")
    world = World("breaking", save_model(folder / "model", tokenizer=tokenizer), {})
    register(live.shelf, world)
    return world


def test_a_stream_holds_any_line_break(server: ServerProcess, breaking: World) -> None:
    vocabulary = breaking.model.hf.get_output_embeddings().weight
    token = breaking.model.tokenizer.convert_tokens_to_ids(BREAKS)
    entry = {"hook": "blocks.2.hook_resid_post", "vector": vocabulary[token].tolist()}
    body = {
        "model": breaking.id,
        "prompt": "x",
        "max_new_tokens": 4,
        "steering": [entry | {"strength": 1e4}],
        "baseline": False,
    }
    whole = server.client.post("/v1/steer", json=body).json()
    assert whole["steered"]["text"] == BREAKS * 4
    with server.client.stream("POST", "/v1/steer", json=body | {"stream": True}) as answer:
        *deltas, (last, done) = events_of(answer)
    assert last == "done"
    assert json.loads(done)["steered"] == whole["steered"]
    assert "".join(json.loads(data)["text"] for _, data in deltas) == BREAKS * 4
