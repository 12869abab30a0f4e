"""Live workers as replicas of Ray Serve answer as a plain one does."""

import time
from collections.abc import Iterator

import httpx
import pytest

from app.contract.live import MODEL_HEADER, SteerEvent
from tests.cluster.ray_cluster import PATIENCE_S, RayCluster
from tests.live.process import LiveProcess
from tests.live.test_http import events, steer
from tests.live.world import TEXTS, World
from worker.jobs.paths import DEMO

STORYWORLD = World("storyworld", DEMO / "storyworld", {})
"""A model slow enough that one can leave before it has ended."""

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]


class ServedLive(LiveProcess):
    """`python -m worker.cluster.serve` in the place of the plain live worker."""

    module = "worker.cluster.serve"

    def stop(self) -> int:
        """Replicas end what they are at; Serve takes its time."""
        assert self.process
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def served(
    cluster: RayCluster, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedLive]:
    served = ServedLive(
        tmp_path_factory.mktemp("served"), [world, STORYWORLD],
        SAESCOPE_RAY_ADDRESS=cluster.address, SAESCOPE_LIVE_MODELS=f"{world.id},storyworld",
        **cluster.env,
    )  # fmt: skip
    served.client.headers[MODEL_HEADER] = world.id
    yield served.start()
    assert served.stop() == 0


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveProcess]:
    process = LiveProcess(tmp_path_factory.mktemp("plain"), [world, STORYWORLD])
    yield process.start()
    process.stop()


def test_answers_are_those_of_a_plain_worker(
    served: ServedLive, plain: LiveProcess, world: World
) -> None:
    entry = {"sae": "1-post", "feature": 7, "amount": 6.0, "method": "add", "positions": "all"}
    for seed in range(4):
        body = steer(world, interventions=[entry], temperature=1.0, seed=seed)
        ours, theirs = ([e for e in events(one, body)] for one in (served, plain))
        assert ours[-1].done and theirs[-1].done and len(ours) > 2
        assert ours[-1].done.steered == theirs[-1].done.steered
        assert ours[-1].done.baseline == theirs[-1].done.baseline
        assert text(ours) == text(theirs) == ours[-1].done.steered.text
        assert served.post("/steer", body)["steered"]["text"] == text(ours)
    texts = {"model": world.id, "saes": ["1-topk", "1-standard"], "texts": TEXTS[:2], "top_k": 3}
    assert served.post("/activations", texts) == plain.post("/activations", texts)


def text(of: list[SteerEvent]) -> str:
    """The steered text of a stream's deltas."""
    return "".join(event.text for event in of if event.answer == "steered")


def test_problems_and_the_token_are_those_of_a_plain_worker(
    served: ServedLive, world: World
) -> None:
    stranger = served.client.post("/steer", json=steer(world) | {"model": "nobody"})
    assert stranger.status_code == 404 and "nobody" in stranger.json()["detail"]
    unknown = httpx.get(f"{served.settings.live_url}/health", trust_env=False)
    assert unknown.status_code == 401


def test_who_leaves_ends_the_work(served: ServedLive, plain: LiveProcess) -> None:
    body = steer(STORYWORLD, "Once upon a time", max_new_tokens=200, stream=True)
    whole = len(events(plain, body)[-1].done.steered.tokens)
    before = seen(served, "generated")
    with served.client.stream("POST", "/steer", json=body) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + PATIENCE_S
    while seen(served, "running") != {0}:
        assert time.monotonic() < deadline, "it goes on"
    for now in seen(served, "generated"):
        assert any(0 <= now - then < whole for then in before), "it went on to its end"


def seen(served: ServedLive, field: str) -> set[int]:
    """What the replicas say of themselves; each is asked by chance."""
    return {served.health()[field] for _ in range(20)}
