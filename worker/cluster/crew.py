"""Units of a job, done by processes on a Ray cluster.

A member of the crew is an actor with a GPU of its own, or with as many CPUs as this process has threads.
It opens the materials once and does units one after another; a plain Ray task would load them for
each. Who is free gets the next unit. Of a member whose process dies Ray starts another, which does the
unit in flight again; a unit under which processes keep dying fails the job. When the iterator is left,
by its end, an error or a cancellation, all members are ended, and with them what they hold.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from app.errors import Unavailable
from worker.cluster.look import Cluster
from worker.materials import Materials, Opened

if TYPE_CHECKING:
    from ray import ObjectRef

POLL_S = 0.5
DEATHS = 3
"""Processes that may die under one unit, and it is done again."""

Unit = tuple[Any, ...]
"""Arguments of a unit: plain data, or what `Crew.share` gave."""
Open = Callable[[Opened], Callable[..., Any]]
"""Makes, of what is in memory, the function that does units."""


class Member:
    """In a process on the cluster."""

    def __init__(self, materials: Materials, open_: Open, device: torch.device) -> None:
        self._parts = materials, open_, device
        self._do: Callable[..., Any] | None = None

    def ready(self) -> None:
        """Open the materials."""
        materials, open_, device = self._parts
        self._do = self._do or open_(materials.open(device))

    def do(self, *unit: Any) -> Any:
        """Do a unit, after another process has died under it, too."""
        self.ready()
        assert self._do is not None
        return self._do(*unit)


class Crew:
    """Works from the same materials all along."""

    def __init__(self, cluster: Cluster, materials: Materials) -> None:
        self._cluster, self._materials = cluster, materials
        self.kind = cluster.kind
        """What decides the last bits of its results."""

    def run(
        self, open_: Open, units: Iterable[Unit], count: int, tick: Callable[[], None]
    ) -> Generator[tuple[Unit, Any]]:
        """Do `count` units; each with its result, in the order in which they are done.

        `tick` is called twice a second and may raise to stop it all.

        Raises:
            Problem: what a unit raised.
            Unavailable: processes keep dying, or the cluster is gone.
        """
        import ray
        from ray.exceptions import RayError

        if not count:
            return
        members = [self._member(open_) for _ in range(min(count, self.size))]
        try:
            yield from _share_out(iter(units), members, tick)
        except RayError as error:
            raise _told(error) from error
        finally:
            for member in members:
                ray.kill(member)

    @property
    def size(self) -> int:
        """How many members the cluster has room for."""
        cluster = self._cluster
        return cluster.gpus or sum(cpus // self._cpus for cpus in cluster.cpus)

    def share(self, value: Any) -> Any:
        """Keep something large on the cluster for units; it goes when nobody holds what this gives."""
        import ray

        return ray.put(value)

    @property
    def _cpus(self) -> int:
        return min(self._materials.threads, max(self._cluster.cpus))

    def _member(self, open_: Open) -> Any:
        import ray

        needs: dict[str, Any] = {"num_cpus": self._cpus}
        if self._cluster.gpus:
            needs = {"num_gpus": 1, "num_cpus": 0}
        actor = ray.remote(max_restarts=-1, max_task_retries=DEATHS, **needs)(Member)
        return actor.remote(self._materials, open_, torch.device(self._cluster.device))


def _share_out(
    left: Iterator[Unit], members: list[Any], tick: Callable[[], None]
) -> Iterator[tuple[Unit, Any]]:
    """Who is free gets the next unit; who finds none left makes room for who waits for some."""
    import ray

    busy: dict[ObjectRef, tuple[Any, Unit | None]] = {
        member.ready.remote(): (member, None) for member in members
    }
    some_left = True
    while some_left or any(unit for _, unit in busy.values()):
        done, _ = ray.wait(list(busy), timeout=POLL_S)
        tick()
        for ref in done:
            member, unit = busy.pop(ref)
            result = ray.get(ref)
            if (following := next(left, None)) is not None:
                busy[member.do.remote(*following)] = (member, following)
            else:
                some_left = False
                ray.kill(member)
            if unit is not None:
                yield unit, result


def _told(error: Exception) -> Exception:
    """What a unit raised, or that the cluster failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    first = " ".join(str(error).split())[:200]
    return Unavailable(
        "The Ray cluster could not do the work: its processes, or the cluster, ended again and again "
        f"({first}). Look into its logs; a retry goes on from what is committed."
    )


@contextmanager
def crew(cluster: Cluster | None, materials: Callable[[], Materials]) -> Iterator[Crew | None]:
    """A crew while the block runs; None where there is no cluster."""
    if cluster is None:
        yield None
        return
    with _connected(cluster.address):
        yield Crew(cluster, materials())


_lock = threading.Lock()
_users: list[object] = []


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be connected, as one process can be to one cluster: by the first who wants it, until the last
    has left."""
    import ray

    user = object()
    with _lock:
        if not _users:
            try:
                ray.init(address, namespace="saescope", configure_logging=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise Unavailable(f"The Ray cluster at {address} is gone ({error}).") from error
        _users.append(user)
    try:
        yield
    finally:
        with _lock:
            _users.remove(user)
            if not _users:
                ray.shutdown()
