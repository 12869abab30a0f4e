"""`python -m worker.cluster.serve`: live workers as replicas of a Ray Serve deployment.

Serve's proxy listens on the port of `SAESCOPE_LIVE_URL`, on the cluster's head. Each replica is a whole
live worker on a GPU of its own, or on CPUs where the cluster has no GPUs, and loads the model that a
request is for. Requests say in a header which that is, so that Serve gives them to replicas that have it.
A request takes one hop, from the proxy to the replica's application: streams are passed on as they come,
and a client that leaves ends its work. The replicas end with this process; after a kill -9 they go on,
and the next start takes them over.
"""

import argparse
import signal
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import torch
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Problem, Unavailable
from app.secret import shared_token
from app.settings import Settings
from worker.cluster.look import Cluster, find_cluster

NAME = "saescope-live"
ONGOING = 1_000
"""Requests that a replica takes at a time; it queues and batches them itself. With Serve's own limit
of five no batch fills."""
MODELS = 8
"""Models for which a replica is known as having them; those used least recently are forgotten first."""
KEEP_ALIVE_S = 75
GRACE_S = 5.0


class Noting:
    """Tells Serve which models a replica has: those loaded at its start, and those asked for."""

    def __init__(self, app: ASGIApp, models: list[str]) -> None:
        from ray import serve

        self._app, self._first = app, models

        @serve.multiplexed(max_num_models_per_replica=MODELS)
        async def note(model: str) -> str:
            return model

        self._note: Any = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the model of a request, and pass it on."""
        from ray import serve

        asked = serve.get_multiplexed_model_id()
        for model in self._first if scope["type"] == "lifespan" else filter(None, [asked]):
            await self._note(model)
        await self._app(scope, receive, send)


def build(settings: Settings, token: str, threads: int) -> ASGIApp:
    """The application of a replica."""
    from worker.live.assemble import assemble

    torch.set_num_threads(threads)
    return Noting(assemble(settings, token), settings.live_models)


def deploy(settings: Settings, cluster: Cluster, replicas: int | None) -> None:
    """Run replicas, as many as there is room for when nobody says, and wait until they answer."""
    import ray
    from ray import serve

    url, threads = urlsplit(settings.live_url), torch.get_num_threads()
    cpus = min(threads, max(cluster.cpus))
    room = cluster.gpus or sum(n // cpus for n in cluster.cpus)
    ray.init(cluster.address, configure_logging=False)
    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": url.hostname or "127.0.0.1",
            "port": url.port or 80,
            "keep_alive_timeout_s": KEEP_ALIVE_S,
        },
    )
    token = shared_token(settings)
    deployment: Any = serve.deployment(serve.ingress(lambda: build(settings, token, threads))())
    configured = deployment.options(
        name="live",
        num_replicas=replicas or room,
        max_ongoing_requests=ONGOING,
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_gpus": 1, "num_cpus": 0} if cluster.gpus else {"num_cpus": cpus},
    )
    serve.run(configured.bind(), name=NAME, route_prefix="/")


def main() -> None:
    """Deploy, and take the deployment away when a signal comes."""
    parser = argparse.ArgumentParser(prog="saescope worker live --ray")
    parser.add_argument("--replicas", type=int)
    replicas = parser.parse_args().replicas
    try:
        settings = Settings()
        cluster = find_cluster(settings)
        if cluster is None:
            raise Unavailable(
                "Set SAESCOPE_RAY_ADDRESS to the Ray cluster that shall run live workers."
            )
        deploy(settings, cluster, replicas)
    except (Problem, RuntimeError, ConnectionError) as problem:
        sys.exit(f"saescope worker live: {problem}")
    _wait_for_signal()
    from ray import serve

    serve.delete(NAME)


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # now, as Ray has handlers of its own
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass


if __name__ == "__main__":
    main()
