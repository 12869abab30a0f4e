"""Whether a Ray cluster answers, and what its nodes have: asked by a process of its own.

    python -m worker.cluster.look ADDRESS DATA_DIR

A Ray client that meets no cluster waits for minutes or ends its process, and neither shall befall
a jobs worker. Prints a `Cluster` as JSON, or ends with a sentence.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from app.errors import Invalid, Unavailable
from app.settings import Settings

CONNECT_S = 5.0
LOOK_S = 90.0
"""Seconds that a cluster may take to answer: its nodes start a process and import torch."""

_UNFIT = "unfit: "


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers."""

    address: str
    gpus: int
    cpus: list[int]
    """Of each node that has GPUs, or of all where none has."""
    kind: str
    """What decides the last bits of results computed there: cpu, or the names of its GPUs."""

    @property
    def device(self) -> str:
        """On which each process works."""
        return "cuda" if self.gpus else "cpu"


def find_cluster(settings: Settings) -> Cluster | None:
    """The cluster of the settings; None where they name none.

    Raises:
        Invalid: Ray is not installed, or a node is not fit to work.
        Unavailable: nothing answers there as a Ray cluster.
    """
    address = settings.ray_address
    if not address:
        return None
    check_installed()
    _check_answers(address)
    command = [sys.executable, "-P", "-m", __name__, address, str(settings.data_dir)]
    try:
        looked = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LOOK_S
        )
    except subprocess.TimeoutExpired:
        raise _no_cluster(address, f"no answer within {LOOK_S:.0f} seconds") from None
    told = looked.stdout.strip().rpartition("\n")[2]
    if looked.returncode == 0:
        return Cluster(**json.loads(told))
    if told.startswith(_UNFIT):
        raise Invalid(told.removeprefix(_UNFIT))
    raise _no_cluster(address, looked.stderr.strip().rpartition("\n")[2])


def check_installed() -> None:
    """Raises Invalid where the extra is missing."""
    if find_spec("ray") is None:
        raise Invalid(
            "SAESCOPE_RAY_ADDRESS names a Ray cluster, but Ray is not installed here; run `pip install "
            "'saescope[ray]'`, or leave the setting out."
        )


def _check_answers(address: str) -> None:
    """Raises Unavailable when nothing listens at an address that names host and port."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Invalid(
            f"SAESCOPE_RAY_ADDRESS is {address}; give host:port of a Ray cluster's head, such as "
            "10.0.0.1:6379, ray://host:port, or auto."
        ) from None
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, why: str) -> Unavailable:
    return Unavailable(
        f"No Ray cluster answers at SAESCOPE_RAY_ADDRESS={address} ({why[:200].rstrip('.')}); start it, or "
        "leave the setting out to work on this machine alone. A cluster with a token wants "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
    )


def main(address: str, data_dir: str) -> None:
    """Ask every node that can work."""
    import ray

    ray.init(address, namespace="saescope", configure_logging=False, log_to_driver=False)
    nodes = [_node(node) for node in ray.nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.gpus]
    chosen = with_gpus or [node for node in nodes if node.cpus]
    if not chosen:
        raise Invalid(f"The Ray cluster at {address} has neither CPUs nor GPUs to work on.")
    with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".seen-by-ray-") as file:
        looks = [(node, _begin_look(node, file.name)) for node in chosen]
        kinds = {_finish_look(node, look, data_dir) for node, look in looks}
    gpus, cpus = sum(node.gpus for node in chosen), [node.cpus for node in chosen]
    print(json.dumps(asdict(Cluster(address, gpus, cpus, " or ".join(sorted(kinds))))), flush=True)


class Node(NamedTuple):
    """A node that is alive."""

    id: str
    name: str
    cpus: int
    gpus: int


def _node(told: dict[str, Any]) -> Node:
    has = told["Resources"]
    return Node(
        told["NodeID"], told["NodeManagerHostname"], int(has.get("CPU", 0)), int(has.get("GPU", 0))
    )


def _begin_look(node: Node, file: str) -> Any:
    """It takes none of the node's resources, so it need not wait until some are free."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(node.id, soft=False)
    task = ray.remote(num_cpus=0, max_calls=1, scheduling_strategy=there)(seen)
    return task.remote(file, node.gpus > 0)


def _finish_look(node: Node, look: Any, data_dir: str) -> str:
    """The kind of a node. Raises Invalid when it is not fit to work."""
    import ray
    from ray.exceptions import RayTaskError

    the_node = f"The node {node.name} of the Ray cluster"
    try:
        versions, kind, sees = ray.get(look)
    except RayTaskError as error:
        last = str(error).strip().rpartition("\n")[2]
        raise Invalid(
            f"{the_node} cannot run saescope ({last[:200]}); install the same there as here."
        ) from None
    if versions != _versions():
        raise Invalid(
            f"{the_node} has {versions}, this worker {_versions()}; install the same there as here."
        )
    if not sees:
        raise Invalid(
            f"{the_node} does not see the data folder {data_dir}; mount it there under the same path."
        )
    return kind


def seen(file: str, has_gpu: bool) -> tuple[str, str, bool]:
    """On a node: what it would compute with, its kind, and whether it sees a file."""
    return _versions(), _gpu() if has_gpu else "cpu", os.path.exists(file)


def _gpu() -> str:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides GPUs from who asked for none
    import torch

    return torch.cuda.get_device_name(0)


def _versions() -> str:
    """Without importing them, which takes seconds."""
    return ", ".join(f"{name} {version(name)}" for name in ("saescope", "torch"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Invalid as problem:
        print(f"{_UNFIT}{problem.detail}")
        sys.exit(1)
