"""`precompute memory 10M over 1M`: the peak resident memory of a process of its own that runs
precompute, with commits, over a long corpus and over a short one; and the size of what it spills.

The long corpus goes once, between two short ones.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from app.store.migrate import migrate
from app.store.write import finish_runs, put_features
from bench.models import make_model
from bench.report import promise
from bench.shape import make_sae, make_sequences
from tests.precompute.shelved import begin_runs, open_for
from worker.models import load_model
from worker.precompute.forecast import spill_bytes
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import load_sae
from worker.tokens import load_corpus, save_corpus

D_MODEL = 64


class Sizes(NamedTuple):
    """Of one run."""

    before_mb: float
    """Peak memory before it: libraries and weights."""
    peak_mb: float
    """Peak memory after it."""
    foretold_mb: float
    """Size of the spill that was foretold."""
    spilled_mb: float
    """Size of the spill."""


def compare_memory(folder: Path, width: int, short: int, long: int) -> None:
    """Run on a corpus of `short` tokens and on one of `long`, and record the ratio of the peaks."""
    model = make_model(folder / "model", d_model=D_MODEL)
    make_sae("topk", width, model).save_model(folder / "sae")
    sizes: dict[int, list[Sizes]] = {short: [], long: []}
    for turn, tokens in enumerate((short, long, short)):
        corpus = save_corpus(folder, f"{tokens:016}", make_sequences(tokens))
        command = [sys.executable, "-m", "bench.memory", folder, corpus, folder / f"run{turn}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        sizes[tokens].append(Sizes(*json.loads(done.stdout)))
        shown = {key: round(value, 1) for key, value in sizes[tokens][-1]._asdict().items()}
        print(f"topk {width // 1024}k, d_model {D_MODEL}: {tokens:,} tokens, {shown}", flush=True)
    peaks = {key: statistics.median(one.peak_mb for one in of) for key, of in sizes.items()}
    config = f"topk {width // 1024}k, d_model {D_MODEL}, {spelt(long)} over {spelt(short)}"
    promise("precompute memory 10M over 1M", config, peaks[long] / peaks[short], "<= 1.1")
    largest = sizes[long][0]
    promise("spill over foretold", f"topk {width // 1024}k, {spelt(long)}",
            largest.spilled_mb / largest.foretold_mb, "<= 1.2")  # fmt: skip


def spelt(tokens: int) -> str:
    """A round number of tokens."""
    return f"{tokens / 2**20:g} M" if tokens >= 2**20 else f"{tokens // 2**10} k"


def measure(folder: Path, corpus: Path, scratch: Path) -> Sizes:
    """What a run in this process takes."""
    model, settings = load_model("bench", folder / "model"), Settings()
    dictionary, sequences = load_sae("sae", folder / "sae", model=model), load_corpus(corpus)
    before = peak_mb()
    scratch.mkdir()
    url = f"sqlite:///{scratch}/shelf.db"
    migrate(url)
    shelf = open_for(url, model, [dictionary])
    begin_runs(shelf, model, [dictionary], sequences, settings)
    foretold = spill_bytes(model, [dictionary], sequences, settings)
    precompute(
        model, [dictionary], sequences, spill_dir=scratch / "spill", settings=settings,
        on_range=lambda sae_id, batch: put_features(shelf, sae_id, batch),
    )  # fmt: skip
    finish_runs(shelf, {"sae": {}})
    shelf.close()
    spilled = sum(file.stat().st_size for file in (scratch / "spill").rglob("*") if file.is_file())
    return Sizes(before, peak_mb(), sum(foretold.values()) / 1e6, spilled / 1e6)


def peak_mb() -> float:
    """The most memory that this process ever had resident (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    print(json.dumps(measure(*map(Path, sys.argv[1:]))))
