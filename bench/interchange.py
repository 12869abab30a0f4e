"""Exports and imports of evidence in Neuronpedia's layout, against reading and writing the same files.

The floor of an import reads every row (gunzip, JSON) and brings as many bytes to disk as the shelf
grows by; that of an export makes the same rows (JSON, gzip) from rows that are in memory. One process
each, nothing else at work. Megabytes are of rows, not of compressed files.

    python -m bench.interchange [--quick]      quick: 512 features instead of 4,096
"""

import argparse
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import torch
from rich.console import Console

from app.contract.jobs import ExportSpec, ImportSpec
from app.settings import Settings
from app.store.engine import open_shelf
from bench.filled import MODEL, SAE, fill
from bench.report import promise, report
from worker.jobs.export_job import export_evidence
from worker.jobs.import_job import import_evidence
from worker.jobs.job import Bench, Job
from worker.neuronpedia.export import GZIP_LEVEL

console = Console()


def main(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, 512 if quick else 4_096, 2 if quick else 3)
    report()


def measure(folder: Path, n_features: int, repeats: int) -> None:
    """Time both ways and both floors, in turns."""
    settings = Settings(data_dir=folder / "from", model_roots=[str(folder)])
    settings.data_dir.mkdir()
    fill(settings.shelf_url, n_features)
    taken: dict[str, list[float]] = {}
    told = [once(folder / f"turn{turn}", settings, taken) for turn in range(repeats)]
    tell(taken, told[0].rows / 1e6, told[0].grown / n_features / 1e3)


class Sizes(NamedTuple):
    """Bytes."""

    rows: int
    grown: int
    """By so many the shelf grew."""


def once(folder: Path, settings: Settings, taken: dict[str, list[float]]) -> Sizes:
    """One turn."""
    folder.mkdir()
    out = folder / "out"
    spec = ExportSpec(model=MODEL, sae=SAE, path=str(out))
    note(taken, "export", lambda: do(settings, export_evidence, folder.name, spec))
    rows = list(read(out))
    note(taken, "export floor", lambda: write(folder / "rows.gz", rows))
    grown = imported(taken, folder, out)
    note(taken, "import floor", lambda: keep(folder / "kept", read(out), grown))
    return Sizes(sum(map(len, rows)), grown)


def tell(taken: dict[str, list[float]], megabytes: float, kilobytes: float) -> None:
    """Speeds, and how they compare with the floors."""
    seconds = {name: statistics.median(own) for name, own in taken.items()}
    for name, own in seconds.items():
        console.print(f"{name}: {megabytes / own:.1f} MB of rows a second")
    console.print(f"an imported feature takes {kilobytes:.1f} kB on the shelf")
    for way in ("import", "export"):
        ratio = seconds[way] / seconds[f"{way} floor"]
        promise(f"{way} over reading and writing", f"{megabytes:.0f} MB of rows", ratio, "<= 10")


def imported(taken: dict[str, list[float]], folder: Path, out: Path) -> int:
    """Import onto a shelf of its own; bytes that it grew by."""
    settings = Settings(data_dir=folder / "to", model_roots=[str(folder)])
    settings.data_dir.mkdir()
    fill(settings.shelf_url, 1)
    before = database(settings)
    spec = ImportSpec(path=str(out), sae="1-again")
    note(taken, "import", lambda: do(settings, import_evidence, "i", spec))
    return database(settings) - before


def do(settings: Settings, work: Callable[[Any], Any], id: str, spec: Any) -> None:
    """A job, without a worker."""
    shelf = open_shelf(settings.shelf_url)
    work(Job(id, spec, Bench(settings, shelf, torch.device("cpu"), 1.0), lambda *_, **__: None))
    shelf.close()


def database(settings: Settings) -> int:
    return sum(path.stat().st_size for path in settings.data_dir.glob("shelf.db*"))


def read(folder: Path) -> Any:
    """Every row of the files, looked at as JSON."""
    for path in sorted(folder.rglob("*.gz")):
        with gzip.open(path) as file:
            for line in file:
                orjson.loads(line)
                yield line


def write(path: Path, rows: list[bytes]) -> None:
    """Rows as JSON, gzipped, to disk."""
    parsed = map(orjson.loads, rows)
    with gzip.open(path, "wb", GZIP_LEVEL) as file:
        for row in parsed:
            file.write(orjson.dumps(row))


def keep(path: Path, rows: Any, n_bytes: int) -> None:
    """Read all rows, then bring so many bytes to disk."""
    for _ in rows:
        pass
    with path.open("wb") as file:
        file.write(bytes(n_bytes))
        file.flush()
        os.fsync(file.fileno())


def note(taken: dict[str, list[float]], name: str, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    work()
    taken.setdefault(name, []).append(time.perf_counter() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
