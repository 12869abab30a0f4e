"""The pages of the bundled model over HTTP, beside the JSON routes whose answers they show.

Both are asked for in turn, of one running service, features and neurons that were not asked for before.
Ratios are of medians; bytes are of the whole page before it is compressed.

    python -m bench.pages URL [--quick]

URL is a service with the bundled evidence, such as `make run` starts.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES, BUNDLED_SPLIT
from bench.report import promise, report

MODEL = f"/models/{BUNDLED_MODEL}"
SAES = f"{MODEL}/saes"
SAE = f"{SAES}/{BUNDLED_SAES[0]}"
NEURONS = f"{MODEL}/neurons/{BUNDLED_SPLIT[0].partition('-')[0]}"


class Asked(NamedTuple):
    """Answers of one kind of page, or of its JSON route."""

    ms: list[float]
    largest: int
    """Bytes."""


class Kind(NamedTuple):
    """A kind of page: addresses of pages and, as many, of JSON routes."""

    name: str
    pages: list[str]
    answers: list[str]


def kinds(client: httpx.Client, repeats: int) -> Iterator[Kind]:
    """What is asked for."""
    for name, base, source in (
        ("feature", f"{SAE}/features", SAE),
        ("neuron", NEURONS, f"{SAES}/{BUNDLED_SPLIT[0]}"),
    ):
        n_features = client.get(f"/v1{source}").raise_for_status().json()["d_sae"]
        some = random.Random(0).sample(range(n_features), 2 * repeats)
        pages = [f"{base}/{index}" for index in some[:repeats]]
        yield Kind(name, pages, [f"/v1{base}/{index}" for index in some[repeats:]])
    yield Kind("SAE", [SAE] * repeats, [f"/v1{SAE}/features?limit=50"] * repeats)
    yield Kind("model", [MODEL] * repeats, [f"/v1{SAES}"] * repeats)


def ask(client: httpx.Client, kind: Kind) -> tuple[Asked, Asked]:
    """A page, then a JSON answer, in turns; the first of each is not counted."""
    asked = (Asked([], 0), Asked([], 0))
    for addresses in zip(kind.pages, kind.answers, strict=True):
        asked = tuple(timed(client, *one) for one in zip(addresses, asked, strict=True))
    return asked[0], asked[1]


def timed(client: httpx.Client, address: str, so_far: Asked) -> Asked:
    """One answer more."""
    began = time.perf_counter()
    body = client.get(address).raise_for_status().content
    took = 1e3 * (time.perf_counter() - began)
    return Asked([*so_far.ms, took], max(so_far.largest, len(body)))


def main() -> None:
    """Ask, print, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="a running service, such as http://127.0.0.1:8000")
    parser.add_argument("--quick", action="store_true", help="fewer of each")
    options = parser.parse_args()
    repeats = 20 if options.quick else 100
    table = Table("page", "ms", "99th", "kB", "JSON: ms", "kB")
    with httpx.Client(base_url=options.url, timeout=60, trust_env=False) as client:
        for kind in kinds(client, repeats):
            page, answer = ask(client, kind)
            middle, floor = (statistics.median(one.ms[1:]) for one in (page, answer))
            late = statistics.quantiles(page.ms[1:], n=100)[-1]
            sizes = [f"{one.largest / 1e3:.1f}" for one in (page, answer)]
            table.add_row(
                kind.name, f"{middle:.1f}", f"{late:.1f}", sizes[0], f"{floor:.1f}", sizes[1]
            )
            promise("page over JSON", kind.name, middle / floor, "<= 10")
            if kind.name == "feature":
                promise("page ms", kind.name, middle, "< 50")
                promise("page kB", kind.name, page.largest / 1e3, "< 100")
    Console().print(table)
    report()


if __name__ == "__main__":
    main()
