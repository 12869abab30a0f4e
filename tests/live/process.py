"""The live worker as a real process over a shelf of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from app.secret import shared_token
from app.settings import Settings
from app.store import read, write
from app.store.engine import Shelf, open_shelf
from app.store.records import ModelRecord, SaeRecord
from tests.databases import prepare
from tests.live.world import World
from tests.store import builders
from worker.fingerprint import fingerprint_model
from worker.models import vocabulary


class LiveProcess:
    """`python -m worker.live.main` and a client for it."""

    module = "worker.live.main"

    def __init__(self, data_dir: Path, worlds: list[World], **environment: str) -> None:
        self.settings = Settings(data_dir=data_dir, live_url=f"http://127.0.0.1:{_free_port()}")
        prepare(self.settings.shelf_url)
        self.shelf = open_shelf(self.settings.shelf_url)
        for world in worlds:
            register(self.shelf, world)
        self.environment = {
            "SAESCOPE_DATA_DIR": str(data_dir),
            "SAESCOPE_LIVE_URL": self.settings.live_url,
            "SAESCOPE_LIVE_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            **environment,
        }
        self.log = data_dir / "live.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = self.new_client()

    def new_client(self) -> httpx.Client:
        """A client with connections of its own."""
        return httpx.Client(
            base_url=self.settings.live_url,
            headers={"Authorization": f"Bearer {shared_token(self.settings)}"},
            timeout=120,
            trust_env=False,
        )

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> "LiveProcess":
        self.process = self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process and self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(f"not ready:\n{self.log.read_text()}")

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a request that must succeed."""
        response = self.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def health(self) -> dict[str, Any]:
        return self.client.get("/health").json()

    def wait_idle(self) -> None:
        """Until no row runs or waits; fails after 20 seconds."""
        deadline = time.monotonic() + 20
        while (health := self.health())["running"] or health["waiting"]:
            assert time.monotonic() < deadline, health
            time.sleep(0.02)


def register(shelf: Shelf, world: World) -> None:
    """Put a model and its SAEs on the shelf, with their folders where they are."""
    model = world.model
    record = ModelRecord(
        id=world.id,
        fingerprint=fingerprint_model(world.folder),
        source="tests",
        path=str(world.folder),
        n_layers=model.n_layers,
        d_model=model.d_model,
        d_mlp=model.d_mlp,
        vocab_size=model.vocab_size,
        context_size=model.context_size,
        prepend_bos=model.prepend_bos,
        hook_points=model.hook_points,
    )
    write.put_model(shelf, record, vocabulary(model))
    for sae_id in world.saes:
        write.put_sae(shelf, sae_record(world, sae_id))


def sae_record(world: World, sae_id: str) -> SaeRecord:
    """Of an SAE, or of a layer's neurons."""
    dictionary = world.dictionary(sae_id)
    return SaeRecord(
        model_id=world.id,
        id=sae_id,
        fingerprint=dictionary.fingerprint,
        path=str(world.saes.get(sae_id, "")),
        hook_name=dictionary.hook_name,
        layer=dictionary.layer,
        architecture=dictionary.architecture,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        steerable=dictionary.steerable,
        steerable_reason=dictionary.steerable_reason,
    )


def put_evidence(
    shelf: Shelf,
    world: World,
    sae_id: str,
    n_sequences: int = 40,
    labels: Sequence[str] = (),
) -> None:
    """A run whose numbers are made up, over tokens that the model has; once for an SAE. The first
    features may have labels of the caller's."""
    size, run_id = world.model.vocab_size, f"made-up-{sae_id}"
    if read.sae(shelf, world.id, sae_id).run_id == run_id:
        return
    tokens = builders.corpus(n_sequences, vocab=size, id=f"{world.id:c>64}")
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    write.begin_run(shelf, world.id, sae_id, tokens.record.id, {}, run_id)
    batch = builders.batch(tokens, 0, world.dictionary(sae_id).d_sae)
    (up, rise), (down, fall) = batch.top_logits, batch.bottom_logits
    batch = replace(
        batch,
        top_logits=(up % size, rise),
        bottom_logits=(down % size, fall),
        labels=[*labels, *batch.labels[len(labels) :]],
    )
    write.put_features(shelf, run_id, batch)
    write.finish_runs(shelf, {run_id: {}})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
