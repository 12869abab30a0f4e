"""`precompute over floor`: evidence for every feature against the work that no run can do without.

Floor: per batch, the truncated forward and one plain PyTorch encode (matmul and ReLU, or matmul and
topk) into preallocated blocks. Ours: `precompute` with a commit of every range to a SQLite shelf,
without what follows from weights alone, which is printed apart because it costs the same for any
corpus. The floor of a batch is timed right after the batch, inside the run, so that both see the
same machine; its time is taken out of ours. Every run is repeated; the ratio is that of the medians.

    python -m bench.precompute [--quick]

A quick run has a short corpus, in which the commits, a fixed cost a feature, weigh more.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE

from app.store.engine import Shelf, open_shelf
from app.store.migrate import migrate
from app.store.records import CorpusRecord, ModelRecord, SaeRecord
from app.store.write import begin_run, finish_run, put_corpus, put_features, put_model, put_sae
from bench.report import promise, report
from bench.train import CONTEXT, D_MODEL, HOOK, VOCABULARY, make_model
from worker.activations import capture
from worker.models import LanguageModel, vocabulary
from worker.precompute.plan import plan_shards, position_bits
from worker.precompute.run import precompute
from worker.precompute.settings import Settings
from worker.saes import Dictionary, load_sae
from worker.tokens import Batch, Sequences, batches

ACTIVE = 32
WIDTHS = {8_192: 2**20, 16_384: 2**18, 65_536: 2**18}
"""Tokens of the corpus, by width."""
QUICK = {8_192: 2**15}
REPEATS = 3
BLOCK = 2**24
"""Pre-activations of the floor's encode that are in memory at a time."""


@dataclass(frozen=True)
class Case:
    """One configuration, with everything made beforehand."""

    name: str
    model: LanguageModel
    sae: SAE
    dictionary: Dictionary
    sequences: Sequences
    folder: Path


@dataclass
class Floor:
    """Truncated forward and encode of the run's own batches, one after another."""

    model: LanguageModel
    sae: SAE
    left: Iterator[Batch]
    forward: float = 0.0
    encode: float = 0.0
    paused: float = 0.0
    """Seconds that the run stood still, all told."""
    buffer: torch.Tensor = field(init=False)
    bias: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        width = self.sae.cfg.d_sae
        self.buffer = torch.empty(BLOCK // width, width)
        self.bias = self.sae.get_parameter("b_enc")

    def __call__(
        self,
        phase: str,
        done: float,
        total: float,
        rate: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Take the next batch, as the progress of a run that has just done it."""
        started = time.perf_counter()
        if phase == "tokens" and done and (batch := next(self.left, None)):
            self._batch(batch)
        self.paused += time.perf_counter() - started

    @torch.inference_mode()
    def _batch(self, batch: Batch) -> None:
        started = time.perf_counter()
        x = capture(self.model, batch.ids, [HOOK])[HOOK][:, 1:].reshape(-1, D_MODEL)
        encoding = time.perf_counter()
        for block in x.split(len(self.buffer)):
            out = self.buffer[: len(block)]
            pre = torch.addmm(self.bias, block, self.sae.W_enc, out=out)
            pre.relu_() if self.sae.cfg.architecture() == "standard" else pre.topk(ACTIVE, dim=1)
        self.forward += encoding - started
        self.encode += time.perf_counter() - encoding


def main(quick: bool) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model")
        for width, tokens in (QUICK if quick else WIDTHS).items():
            sequences = make_sequences(tokens)
            for kind in ("topk", "standard"):
                name = f"{kind.replace('standard', 'relu')} {width // 1024}k"
                sae = make_sae(kind, width, model)
                sae.save_model(folder / name)
                with torch.no_grad():
                    dictionary = load_sae(name.replace(" ", "-"), folder / name)
                    compare(Case(name, model, sae, dictionary, sequences, folder))
    report()


def compare(case: Case) -> None:
    """Run precompute with the floor beside it a few times, and record the ratio of the medians."""
    runs = [run(case) for _ in range(REPEATS)]
    seconds = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
    shown = {key: round(value, 2) for key, value in seconds.items()}
    print(f"{case.name}: {len(case.sequences.flat):,} tokens, seconds {shown}", flush=True)
    promise("precompute over floor", case.name, seconds["whole"] / seconds["floor"], "<= 1.15")


def run(case: Case) -> dict[str, float]:
    """Seconds of one run by step, of its floor, and of what is counted of each; and the active
    features a token."""
    model, dictionary, sequences = case.model, case.dictionary, case.sequences
    settings = Settings()
    shards = plan_shards(sequences.offsets, settings.shard_tokens, position_bits(model.context_size))
    own = (batch for shard in shards
           for batch in batches(sequences, settings.batch_tokens, shard.first, shard.stop))  # fmt: skip
    floor = Floor(model, case.sae, own)
    with tempfile.TemporaryDirectory(dir=case.folder) as scratch:
        shelf, run_id = open_run(Path(scratch) / "shelf.db", model, dictionary, sequences)
        done = precompute(
            model, [dictionary], sequences, spill_dir=Path(scratch) / "spill", settings=settings,
            on_progress=floor, on_range=lambda _, batch: put_features(shelf, run_id, batch),
        )  # fmt: skip
        finish_run(shelf, run_id, {})
        shelf.close()
    steps = {**done.seconds, "tokens": done.seconds["tokens"] - floor.paused}
    apart = steps.pop("weights")
    return {
        "forward": floor.forward, "encode": floor.encode, "floor": floor.forward + floor.encode,
        **steps, "whole": sum(steps.values()), "weights, apart": apart,
        "active a token": done.entries[dictionary.id] / done.tokens,
    }  # fmt: skip


def make_sequences(tokens: int) -> Sequences:
    """Sequences of 128 tokens with Zipf's frequencies, BOS first."""
    frequency = 1 / np.arange(1, VOCABULARY)
    n = tokens // CONTEXT
    ids = np.random.default_rng(0).choice(
        np.arange(1, VOCABULARY, dtype=np.uint16), size=(n, CONTEXT), p=frequency / frequency.sum()
    )
    ids[:, 0] = 0
    return Sequences(ids.reshape(-1), np.arange(n + 1) * CONTEXT)


@torch.no_grad()
def make_sae(kind: str, width: int, model: LanguageModel) -> SAE:
    """A random SAE with about 32 active features a token, some frequent and some rare."""
    torch.manual_seed(1)
    config = {"architecture": kind, "d_in": D_MODEL, "d_sae": width,
              "metadata": {"hook_name": HOOK, "model_name": "bench"}}  # fmt: skip
    sae = SAE.from_dict(config | ({"k": ACTIVE} if kind == "topk" else {}))
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn(width, D_MODEL), dim=1)
    sae.W_enc.data = sae.W_dec.data.T.contiguous()
    if kind == "standard":
        sae.b_enc.data = _biases(sae.W_enc, model)
    return sae.requires_grad_(False)


def _biases(weight: torch.Tensor, model: LanguageModel) -> torch.Tensor:
    """Biases, spread over features, at which 32 features a token are active on a sample."""
    ids = torch.from_numpy(make_sequences(4_096).flat.astype(np.int64)).reshape(-1, CONTEXT)
    pre = capture(model, ids, [HOOK])[HOOK][:, 1:].reshape(-1, D_MODEL)[::4] @ weight
    spread = torch.randn(weight.shape[1]) * 0.25 * pre.std()
    pre += spread
    return spread - pre.flatten().topk(ACTIVE * len(pre)).values[-1]


def open_run(
    file: Path, model: LanguageModel, dictionary: Dictionary, sequences: Sequences
) -> tuple[Shelf, str]:
    """A shelf that knows model, SAE and corpus, and a run to commit to."""
    url = f"sqlite:///{file}"
    migrate(url)
    shelf = open_shelf(url)
    put_model(shelf, _model_record(model), vocabulary(model))
    put_sae(shelf, SaeRecord(
        model_id=model.id, id=dictionary.id, fingerprint=dictionary.fingerprint, path="",
        hook_name=HOOK, layer=2, architecture=dictionary.architecture, d_in=D_MODEL,
        d_sae=dictionary.d_sae, steerable=True, steerable_reason=None,
    ))  # fmt: skip
    put_corpus(shelf, CorpusRecord(
        id="corpus", model_id=model.id, source="bench", n_sequences=len(sequences),
        n_tokens=len(sequences.flat), context_size=CONTEXT, prepend_bos=True,
    ), sequences.flat, sequences.offsets)  # fmt: skip
    begin_run(shelf, model.id, dictionary.id, "corpus", asdict(Settings()), "run")
    return shelf, "run"


def _model_record(model: LanguageModel) -> ModelRecord:
    return ModelRecord(
        id=model.id, fingerprint=model.fingerprint, source="bench", path=str(model.path),
        n_layers=model.n_layers, d_model=D_MODEL, d_mlp=model.d_mlp, vocab_size=VOCABULARY,
        context_size=CONTEXT, prepend_bos=True, hook_points=model.hook_points,
    )  # fmt: skip


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
