"""A service in which there is what the document's examples name, so that they can be run as they are.

The bundled model and its SAEs, with evidence whose numbers are made up; neurons that are split; under
the id in the chat's example a model that can chat; the catalog; jobs that ended well, failed and were
cancelled, as their rows tell; a list and a vector. No jobs worker runs, so a job that is submitted stays queued.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text, update

from app.contract.bundled import (
    BUNDLED_AXIS,
    BUNDLED_MODEL,
    BUNDLED_SAES,
    BUNDLED_SOURCES,
    BUNDLED_SPLIT,
)
from app.store import catalog, splits, write
from app.store import tables as t
from app.store.engine import Shelf, autocommitting, connected
from tests.api.server import ServerProcess
from tests.live.process import LiveProcess, put_evidence, sae_record
from tests.live.world import World
from tests.store import builders, split_builders
from worker.catalog import installed
from worker.jobs.paths import DEMO

CHATTY = "my-chat-model"
"""Id of the model in the examples of chats."""
CHATTY_SAE = "2-res"
"""The SAE by which they steer."""
KEY = {"x-api-key": "my-key"}
"""Whose lists and vectors the examples name."""
LIST = "yourlist"
VECTOR = 12_345_678
DOOMED = "-doomed"
"""Behind the id of a model or an SAE: one without files that is there to be deleted."""
DOOMED_LIST, DOOMED_VECTOR = "doomedlist", 12_345_679
TRAIN = {
    "kind": "train",
    "model": BUNDLED_MODEL,
    "sae": "2-small",
    "hook_name": "blocks.2.hook_resid_post",
    "corpus": {"bundled": BUNDLED_MODEL, "documents": 4},
    "d_sae": 8,
    "k": 2,
    "training_tokens": 64,
    "train_batch_tokens": 32,
}
LIMITS = {"SAESCOPE_MAX_NEW_TOKENS": "64"}
"""As few as examples and defaults need."""
RESULT = {
    "sae": TRAIN["sae"],
    "curve": {"tokens": [32, 64], "metrics": {"loss": [2.5, 1.5], "l0": [2.0, 2.0]}},
}


@dataclass
class Place:
    """The running service."""

    server: ServerProcess
    live: LiveProcess
    done: str
    """Id of a training job that is done."""
    doomed_job: str
    """Id of another, which no request but its deletion changes."""

    @property
    def doomed(self) -> dict[str, str]:
        """By the ids that other requests need, those that may be deleted in their place."""
        ids = [BUNDLED_MODEL, CHATTY, *BUNDLED_SOURCES]
        others = {self.done: self.doomed_job, LIST: DOOMED_LIST, str(VECTOR): str(DOOMED_VECTOR)}
        return {id: id + DOOMED for id in ids} | others


def bundled_world() -> World:
    """The bundled model and its SAEs."""
    return World(BUNDLED_MODEL, DEMO / "storyworld", {s: DEMO / "saes" / s for s in BUNDLED_SAES})


@contextmanager
def running(folder: Path, chatty: World, **environment: str) -> Iterator[Place]:
    """The API and the live worker as processes over a filled shelf; they end with the block."""
    bundled = bundled_world()
    saes = chatty.saes | {CHATTY_SAE: chatty.saes["1-post"]}
    environment = LIMITS | environment
    live = LiveProcess(folder, [bundled, replace(chatty, id=CHATTY, saes=saes)], **environment)
    server = ServerProcess(live.settings, **environment)
    try:
        live.process = live.spawn()
        _fill(live.shelf, bundled)
        server.start()
        done, doomed = _put_jobs(server, live.settings.jobs_url)
        _put_owned(server, live.shelf)
        live.wait_ready()
        yield Place(server, live, done, doomed)
    finally:
        for process in (server, live):
            if process.process:
                process.stop()


def _fill(shelf: Shelf, bundled: World) -> None:
    _put_evidence(shelf, bundled)
    catalog.replace(shelf, installed(), [builders.catalog_entry()])
    for model in (BUNDLED_MODEL, CHATTY):
        write.put_model(
            shelf, builders.model_record(model + DOOMED, path=""), builders.vocabulary()
        )
    for sae in BUNDLED_SAES:
        doomed = builders.sae_record(sae + DOOMED, model_id=BUNDLED_MODEL)
        write.put_sae(shelf, replace(doomed, path=""))


def _put_evidence(shelf: Shelf, bundled: World) -> None:
    """Evidence of all SAEs and of the neurons of a layer, which are split by the SAE for it."""
    neurons, sae = BUNDLED_SPLIT
    write.put_sae(shelf, sae_record(bundled, neurons))
    for source in BUNDLED_SOURCES:
        put_evidence(shelf, bundled, source, n_sequences=1)  # a calibration steers them all
    number = splits.begin_split(shelf, f"made-up-{neurons}", f"made-up-{sae}")
    many = range(bundled.model.d_mlp)
    splits.put_neurons(shelf, number, [split_builders.split_of(neuron) for neuron in many])
    splits.finish_split(shelf, number)


def _put_jobs(server: ServerProcess, jobs_url: str) -> tuple[str, str]:
    """Two jobs that are done, one that failed and one that was cancelled; ids of the first two."""
    done, doomed, failed, cancelled = (_submit(server, TRAIN) for _ in range(4))
    with connected(autocommitting(jobs_url)) as connection:
        end = text(
            "UPDATE workflow_status SET status = :state, output = :result WHERE workflow_uuid = :job"
        )
        for job in (done, doomed):
            connection.execute(end, {"job": job, "state": "SUCCESS", "result": json.dumps(RESULT)})
        connection.execute(end, {"job": failed, "state": "ERROR", "result": None})
    assert server.client.post(f"/v1/jobs/{cancelled}/cancel").status_code == 200
    return done, doomed


def _put_owned(server: ServerProcess, shelf: Shelf) -> None:
    """Lists and vectors, under the ids of the examples: the service gives out others."""

    def post(path: str, body: dict[str, Any]) -> Any:
        answer = server.client.post(f"/api/{path}", json=body, headers=KEY)
        assert answer.status_code == 200, answer.text
        return answer.json()

    feature = {"modelId": BUNDLED_MODEL, "layer": BUNDLED_SAES[0]}
    features = [{**feature, "index": index} for index in (12, 266)]
    axis = {"modelId": BUNDLED_MODEL, "vector": BUNDLED_AXIS, "vectorLabel": "An axis"}
    place = {"layerNumber": 2, "hookType": "hook_resid_post"}
    for list_id, number in ((LIST, VECTOR), (DOOMED_LIST, DOOMED_VECTOR)):
        made = post("list/new", {"name": list_id})
        vector = post("vector/new", axis | place)["vector"]
        own_list = t.lists.c.id == made["id"]
        own_vector = t.vectors.c.number == int(vector["index"])
        with shelf.write() as connection:
            connection.execute(update(t.lists).where(own_list).values(id=list_id))
            connection.execute(update(t.vectors).where(own_vector).values(number=number))
        post("list/add-features", {"listId": list_id, "featuresToAdd": features})


def _submit(server: ServerProcess, spec: dict[str, Any]) -> str:
    answer = server.client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]
