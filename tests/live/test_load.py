"""Two hundred callers of API and live worker, as processes: each is answered as if it were alone."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from app.api.interventions import resolve
from app.contract.live import ActivationsRequest
from app.contract.steering import Intervention, SteeringEntry
from app.settings import Settings
from tests.api.conftest import put_evidence
from tests.api.server import ServerProcess
from tests.live.crowd import Crowd, Outcome
from tests.live.mixture import CONTEXT, Asked, mixture
from tests.live.process import LiveProcess
from tests.live.reference import Reference, by_bridge, check_same, draw_edge
from tests.live.world import SITES, World
from worker.live import render
from worker.live.capture import CaptureQueue
from worker.live.prepare import prepare_capture
from worker.live.resident import Held
from worker.models import vocabulary
from worker.tokens import encode_text

NEAR = 1e-5


@pytest.fixture(scope="module")
def worlds(world: World, llama: World, gemma: World) -> dict[str, World]:
    return {one.id: one for one in (world, llama, gemma)}


@pytest.fixture(scope="module")
def server(live: LiveProcess, world: World) -> Iterator[ServerProcess]:
    """The API as a process; `1-post` of the GPT-2 has evidence, for lookups and units."""
    put_evidence(live.shelf, world, "1-post")
    running = ServerProcess(live.settings)
    try:
        yield running.start()
    finally:
        running.stop()


def test_two_hundred_at_once_are_answered_as_each_alone(
    live: LiveProcess, server: ServerProcess, worlds: dict[str, World]
) -> None:
    """Captures alone run in this process: the worker keeps the states of recent texts."""
    asked = mixture(3, list(worlds), 200)
    texts = [one for one in asked if one.path != "/v1/activations"]
    alone = asyncio.run(Crowd(server.url).one_at_a_time(texts))
    logged = len(live.log.read_text())
    crowd = asyncio.run(Crowd(server.url).at_once(asked))
    live.wait_idle()
    compare, expected = Comparison(live, worlds), iter(alone)
    for one, ours in zip(asked, crowd, strict=True):
        compare(one, ours, None if one.path == "/v1/activations" else next(expected))
    again = asyncio.run(Crowd(server.url).one_at_a_time(texts[:20]))
    for one, ours, before in zip(texts, again, alone, strict=False):
        compare(one, ours, before)
    kinds = zip(asked, crowd, strict=True)
    print(Counter((one.path, one.manner, ours.status) for one, ours in kinds))
    assert "Traceback" not in server.log.read_text() + live.log.read_text()[logged:]


LONG = {"prompt": "x", "max_new_tokens": 60, "baseline": False}
ROWS = 64


def test_what_asks_nothing_of_the_model_is_answered_while_sixty_four_generate(
    live: LiveProcess, server: ServerProcess, world: World
) -> None:
    """Each within the time of a whole answer, counted in tokens; the times are printed."""
    feature = f"/v1/models/{world.id}/saes/1-post/features"
    gets = ["/healthz", "/readyz", f"{feature}/3", f"{feature}?limit=5", f"/v1/models/{world.id}"]
    body = LONG | {"model": world.id}
    refused = [
        body | {"prompt": "salt and flour " * 20},
        body | {"max_new_tokens": CONTEXT},
        body | {"steering": [{"sae": "1-post", "feature": 1}] * 33},
        body | {"steering": [{"hook": SITES["post"], "vector": [1.0]}]},
        {"model": world.id, "saes": ["1-post"], "texts": ["salt " * 80]},
    ]
    with busy(server, body, callers=ROWS + 16):
        while (health := live.health())["running"] < ROWS or not health["waiting"]:
            time.sleep(0.01)
        took = {path: [one_answer(live, server, path) for _ in range(20)] for path in gets}
        for one in refused:
            path = "/v1/activations" if "texts" in one else "/v1/steer"
            one_answer(live, server, path, one, status=422)
        assert live.health()["generated"] > health["generated"]
    live.wait_idle()
    for path, seconds in took.items():
        p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
        print(f"{path}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def one_answer(
    live: LiveProcess,
    server: ServerProcess,
    path: str,
    body: dict[str, Any] | None = None,
    status: int = 200,
) -> float:
    """Seconds until an answer that must come before any that is generated from now on."""
    before, began = live.health()["generated"], time.perf_counter()
    response = server.client.request("GET" if body is None else "POST", path, json=body)
    seconds = time.perf_counter() - began
    assert response.status_code == status, response.text
    assert live.health()["generated"] - before < ROWS * LONG["max_new_tokens"]
    return seconds


@contextmanager
def busy(server: ServerProcess, body: dict[str, Any], callers: int) -> Iterator[None]:
    """Callers who ask again as soon as they have an answer."""
    over = threading.Event()

    async def ask_again(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            assert (await client.post("/v1/steer", json=body)).status_code == 200

    async def all_ask() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, timeout=120, limits=limits, trust_env=False
        ) as client:
            await asyncio.gather(*(ask_again(client) for _ in range(callers)))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asyncio.run, all_ask())
        try:
            yield
        finally:
            over.set()
            asking.result()


class Comparison:
    """Fails unless an answer in a crowd is the answer alone."""

    def __init__(self, live: LiveProcess, worlds: dict[str, World]) -> None:
        self._live, self._worlds = live, worlds
        self._references: dict[str, Reference] = {}
        self._residents = {name: world.held().resident for name, world in worlds.items()}

    def __call__(self, asked: Asked, ours: Outcome, alone: Outcome | None) -> None:
        if alone is None:
            assert ours.status == 200, ours.answer
            self._values(ours.answer, self._captured(asked.body))
        elif ours.status == 0:
            self._beginning(asked, ours, alone)
        elif "detail" in alone.answer:
            assert ours.answer == alone.answer, asked
        elif asked.path == "/v1/features/search":
            close(ours.answer, alone.answer)
        elif asked.path == "/v1/steer/sweep":
            self._sweep(asked, ours.answer, alone.answer)
        else:
            self._texts(asked, ours, alone)

    def _beginning(self, asked: Asked, ours: Outcome, alone: Outcome) -> None:
        """Of one who left: what it has seen is the beginning of the answer."""
        for name in ("steered", "baseline"):
            _, tokens = ours.streamed(name)
            if tokens and alone.answer.get(name):
                whole = alone.answer[name]["tokens"]
                self._tokens(asked, self._entries(asked, name), tokens, whole[: len(tokens)])

    def _texts(self, asked: Asked, ours: Outcome, alone: Outcome) -> None:
        assert ours.answer["usage"] == alone.answer["usage"]
        for name in ("steered", "baseline"):
            own, right = ours.answer[name], alone.answer[name]
            if right is None:
                assert own is None
                continue
            if ours.deltas:
                assert ours.streamed(name) == (own["text"], own["tokens"])
            if self._tokens(asked, self._entries(asked, name), own["tokens"], right["tokens"]):
                close(own, right)

    def _sweep(self, asked: Asked, ours: Any, alone: Any) -> None:
        entries = self._entries(asked, "steered")
        for own, right in zip(ours["rows"], alone["rows"], strict=True):
            strength = right["strength"]
            dose = [e.model_copy(update={"amount": e.amount * strength}) for e in entries]
            if self._tokens(asked, dose, own["tokens"], right["tokens"]):
                close(own, right)

    def _tokens(
        self, asked: Asked, entries: list[Intervention], ours: list[str], alone: list[str]
    ) -> bool:
        """Whether they are the same; if not, it must be a near tie."""
        if ours == alone:
            return True
        world, body = self._worlds[asked.body["model"]], asked.body
        display = vocabulary(world.model).display
        edge = None
        if body.get("temperature"):
            cut = body.get("top_p", 1.0), body.get("top_k")
            edge = draw_edge(body["seed"], body["temperature"], *cut)
        if world.id not in self._references:
            self._references[world.id] = by_bridge(world)
        prompt = encode_text(world.model, body["prompt"])
        theirs = [display.index(token) for token in alone]
        check_same(
            self._references[world.id], prompt, entries, ours, theirs, edge, display.__getitem__
        )
        return False

    def _entries(self, asked: Asked, name: str) -> list[Intervention]:
        if name == "baseline":
            return []
        entries = [SteeringEntry.model_validate(one) for one in asked.body["steering"]]
        return resolve(self._live.shelf, asked.body["model"], entries)

    def _captured(self, body: dict[str, Any]) -> Any:
        """The answer of a queue of its own, in which no text has been before."""
        world, resident = self._worlds[body["model"]], self._residents[body["model"]]
        held = Held(resident, {sae: world.dictionary(sae) for sae in body["saes"]})
        job = prepare_capture(ActivationsRequest.model_validate(body), held, Settings())
        captures = CaptureQueue(world.model)
        captures.submit(job)
        while captures.waiting:
            captures.step()
        pieces = render.activations(job, job.answer.result(), resident.vocabulary)
        return orjson.loads(b"".join(pieces))

    def _values(self, ours: Any, alone: Any) -> None:
        for own, right in zip(ours["results"], alone["results"], strict=True):
            assert own["tokens"] == right["tokens"]
            for sae, values in right["saes"].items():
                if "features" in values:
                    close(own["saes"][sae], values)
                else:
                    same_top(own["saes"][sae]["top"], values["top"])


def same_top(ours: list[list[dict[str, Any]]], alone: list[list[dict[str, Any]]]) -> None:
    """The same features at every token; at the end of a list either of two that are equal."""
    scale = max((one["value"] for token in alone for one in token), default=0.0)
    for own, right in zip(ours, alone, strict=True):
        a, b = ({one["feature"]: one["value"] for one in token} for token in (own, right))
        assert len(a) == len(b)
        for feature in a.keys() | b.keys():
            value, other = a.get(feature, min(a.values())), b.get(feature, min(b.values()))
            assert abs(value - other) <= NEAR * scale, (own, right)


def close(ours: Any, alone: Any) -> None:
    """The same, numbers of a list to 1e-5 of the largest."""
    assert type(ours) is type(alone)
    if isinstance(alone, dict):
        assert ours.keys() == alone.keys()
        for name in alone:
            close(ours[name], alone[name])
    elif isinstance(alone, list) and alone and isinstance(alone[0], float):
        assert np.allclose(ours, alone, rtol=NEAR, atol=NEAR * max(map(abs, alone))), (ours, alone)
    elif isinstance(alone, list) and alone and not isinstance(alone[0], str):
        for pair in zip(ours, alone, strict=True):
            close(*pair)
    elif isinstance(alone, float):
        assert ours == pytest.approx(alone, rel=NEAR, abs=NEAR)
    else:
        assert ours == alone
