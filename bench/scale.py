"""What three large tasks cost, from rates that were measured: the tables of `docs/scale.md`.

    python -m bench.scale

Nothing is run. What grows with a corpus is counted in operations of its matrix products and in active
(token, feature) pairs, called entries; what follows from weights in products of all features with each
other. `MEASURED` says where each rate comes from (`docs/log.md`: two CPU cores), `ASSUMED` what was not
measured.
"""

from typing import NamedTuple

from worker.precompute.settings import Settings
from worker.precompute.spill import ENTRY_BYTES, START_BYTES

CORE_FLOPS, WEIGHT_FLOPS = 82e9, 61e9
ENTRY_S, FEATURE_S, CELL_S = 0.22e-6, 0.10e-3, 3.5e-9
COMMIT_PER_S, KB = 2_800, 4.4
GPU_FLOPS, DISK, OPEN_S = 30e12, 1e9, 20.0

MEASURED = {
    f"{CORE_FLOPS / 1e9:.0f} G operations/s of a core": "ReLU at 65 k less ReLU at 16 k, 262,144 tokens: "
    "49,152 features x 512 operations in 122.0 - 42.1 s",
    f"{WEIGHT_FLOPS / 1e9:.0f} G operations/s of a core, from weights": "logits and neighbours at 65 k, "
    "d_model 256, 5,000 tokens of vocabulary: 2.4 T operations in 39 s",
    f"{ENTRY_S * 1e6:.2f} µs of a core an entry, {FEATURE_S * 1e3:.2f} ms a feature": "what is above the "
    "floor: 0.06 of 135 s for 33.6 M entries and 8 k features, 0.07 of 122 s for 8.4 M and 65 k",
    f"{CELL_S * 1e9:.1f} ns of a core a pair of features": "co-activity at 65 k: 15 s for 65,536² pairs",
    f"{COMMIT_PER_S:,} features/s committed, {KB} kB each": "61,440 full features into Postgres with one "
    "connection, indexes included, a busy machine",
    f"{ENTRY_BYTES} bytes an entry, {START_BYTES} a feature and segment": "the form of a spill; what was "
    "written was 0.99 of what that foretold",
}
ASSUMED = {
    f"{GPU_FLOPS / 1e12:.0f} T operations/s of a GPU": "about half of an H100's data sheet in float32. No "
    "GPU was measured",
    f"{DISK / 1e9:.0f} GB/s": "reading a spill back, once, for the sample of co-activity",
    f"{OPEN_S:.0f} s": "a process on the cluster starts and opens model and SAEs (measured for small ones: "
    "6 to 15 s on two busy cores), once in each of the two phases",
}


class Task(NamedTuple):
    """One run of precompute."""

    name: str
    tokens: float
    parameters: float
    """That a truncated forward uses."""
    d_model: int
    vocabulary: int
    saes: int
    width: int
    l0: int

    @property
    def features(self) -> int:
        return self.saes * self.width

    @property
    def entries(self) -> float:
        return self.tokens * self.saes * self.l0

    @property
    def floor(self) -> float:
        """Operations of forwards and encoders."""
        return self.tokens * 2 * (self.parameters + self.d_model * self.features)

    @property
    def of_weights(self) -> float:
        """Operations of neighbours and logits."""
        return 2 * self.features * self.d_model * (self.width + self.vocabulary)

    @property
    def host_s(self) -> float:
        """Seconds of a core that no GPU saves."""
        cells = self.features * self.width
        return self.entries * ENTRY_S + self.features * FEATURE_S + cells * CELL_S

    @property
    def core_s(self) -> float:
        return self.floor / CORE_FLOPS + self.of_weights / WEIGHT_FLOPS + self.host_s

    @property
    def gpu_s(self) -> float:
        """On one GPU with one core beside it, one after the other."""
        return (self.floor + self.of_weights) / GPU_FLOPS + self.host_s

    def ray_s(self, members: int) -> float:
        """With so many GPUs: the commits and the sample are the driver's alone."""
        alone = self.features / COMMIT_PER_S + self.spill / DISK
        return self.gpu_s / members + alone + 2 * OPEN_S

    @property
    def spill(self) -> float:
        """Bytes: entries, and where each feature begins in each segment."""
        segment = Settings().segment_limit(self.saes)
        return self.entries * (ENTRY_BYTES + START_BYTES * self.width / segment)

    @property
    def weights(self) -> float:
        """Bytes of the SAEs in float32: encoder and decoder."""
        return 2 * 4 * self.d_model * self.features


TASKS = (
    Task("27 layers, 16 k wide", 10e6, 2.1e9, 2_304, 256_000, 27, 2**14, 64),
    Task("one SAE of 1 M features, middle layer", 10e6, 1.05e9, 2_304, 256_000, 1, 2**20, 64),
)
CLUSTERS = (4, 16)
POSTGRES = (1_000_000, 100_000_000)


def rows(task: Task) -> dict[str, str]:
    """Of the first table."""
    return {
        "features": f"{task.features:,}",
        "entries": f"{task.entries / 1e9:,.2g} G",
        "operations of forwards and encoders": f"{task.floor / 1e15:,.1f} P",
        "operations of neighbours and logits": f"{task.of_weights / 1e15:,.2f} P",
        "host: entries, features, co-activity": spelt(task.host_s),
        "**one core, all of it**": spelt(task.core_s),
        "**one GPU**": spelt(task.gpu_s),
        **{f"**Ray, {n} GPUs**": spelt(task.ray_s(n)) for n in CLUSTERS},
        "SAEs in memory, float32": f"{task.weights / 1e9:.1f} GB",
        "spill on disk": f"{task.spill / 1e9:,.0f} GB",
        "evidence in Postgres": f"{task.features * KB / 1e6:.1f} GB",
    }


def postgres_rows(features: int) -> dict[str, str]:
    """Of the second table."""
    return {
        "bytes, indexes included": f"{features * KB / 1e6:,.1f} GB",
        "commits of one jobs worker": spelt(features / COMMIT_PER_S),
        "commits of eight, if the disk keeps up": spelt(features / COMMIT_PER_S / 8),
    }


def spelt(seconds: float) -> str:
    """A time in the unit that people use for it."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def table(columns: dict[str, dict[str, str]]) -> str:
    """Markdown, with a column for each."""
    names = list(next(iter(columns.values())))
    head = f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
    body = [f"| {name} | {' | '.join(of[name] for of in columns.values())} |" for name in names]
    return "\n".join([head, *body])


def tables() -> list[str]:
    """All that the document shows."""
    sources = [
        "\n".join(
            [f"| {kind} | |\n|---|---|", *(f"| {rate} | {why} |" for rate, why in of.items())]
        )
        for kind, of in (("measured", MEASURED), ("assumed", ASSUMED))
    ]
    large = {f"{n:,} features": postgres_rows(n) for n in POSTGRES}
    return [*sources, table({task.name: rows(task) for task in TASKS}), table(large)]


if __name__ == "__main__":
    print("\n\n".join(tables()))
