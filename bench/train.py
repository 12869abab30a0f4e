"""`training over floor`: a whole training run against the work that no run can do without.

Floor: the truncated forward over the training sequences, then SAETrainer.step on batches that are
already in memory, mixed, in order. Ours: `train` from the call to the start of its evaluation, so
with mixing, metrics, progress and a checkpoint. Medians of interleaved repeats.

    python -m bench.train [--quick]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from app.contract.jobs import TrainSpec
from bench.report import promise, report
from worker.activations import capture
from worker.models import LanguageModel, load_model
from worker.tokens import Sequences, batches
from worker.train.order import HELD_OUT_SHARE, hold_out, take
from worker.train.run import train
from worker.train.settings import Settings, resolve
from worker.train.stream import Activations
from worker.train.trainer import build, set_scale

HOOK = "blocks.2.hook_resid_post"
VOCABULARY, CONTEXT, D_MODEL = 5_000, 128, 256


@dataclass(frozen=True)
class Case:
    """One configuration, with everything made beforehand."""

    name: str
    spec: TrainSpec
    model: LanguageModel
    sequences: Sequences
    folder: Path


def main(quick: bool) -> None:
    tokens = 2**15 if quick else 2**18
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make_model(folder / "model")
        sequences = make_sequences(tokens)
        for name, options in {
            "topk 2k": {"architecture": "topk", "k": 32},
            "standard 2k": {"architecture": "standard"},
        }.items():
            spec = TrainSpec.model_validate({
                "model": "bench", "sae": "2-bench", "hook_name": HOOK, "d_sae": 2_048,
                "training_tokens": tokens, "train_batch_tokens": 4_096, **options,
            })  # fmt: skip
            compare(Case(name, spec, model, sequences, folder), repeats=3 if quick else 5)
    report()


def compare(case: Case, repeats: int) -> None:
    """Time floor and run in turn, and record the ratio of the medians."""
    settings = resolve(case.spec, case.model)
    resident = Activations(case.model, case.sequences, [settings])
    kept = [batch[HOOK].clone() for batch in resident.batches(0, lambda: None)]
    forward, step, whole = [], [], []
    for _ in range(repeats):
        forward.append(timed(lambda: run_forward(case, settings)))
        step.append(timed(lambda: run_steps(case, settings, kept)))
        whole.append(run_training(case))
    floor = [f + s for f, s in zip(forward, step, strict=True)]
    ratio = statistics.median(whole) / statistics.median(floor)
    seconds = {"forward": forward, "step": step, "floor": floor, "train": whole}
    medians = {key: round(statistics.median(value), 2) for key, value in seconds.items()}
    print(f"{case.name}: {settings.tokens:,} tokens, seconds {medians}", flush=True)
    promise("training over floor", case.name, ratio, "<= 1.15")


def run_forward(case: Case, settings: Settings) -> None:
    """The truncated forward over what is trained on."""
    rows, _ = hold_out(np.diff(case.sequences.offsets) - 1)
    for batch in batches(take(case.sequences, rows), settings.forward_tokens):
        capture(case.model, batch.ids, [HOOK])


def run_steps(case: Case, settings: Settings, kept: list[torch.Tensor]) -> None:
    """SAELens' step on resident batches."""
    torch.manual_seed(settings.seed)
    trainer = build(settings, case.model.id, case.model.device)
    set_scale(trainer, kept[0])
    for batch in kept:
        trainer.step(batch)
        trainer.n_training_steps += 1


def run_training(case: Case) -> float:
    """Seconds of a training run up to its evaluation."""
    start, end = time.perf_counter(), 0.0

    def progress(phase: str, *_: object, **__: object) -> None:
        nonlocal end
        end = end or (time.perf_counter() if phase == "evaluate" else 0.0)

    with tempfile.TemporaryDirectory(dir=case.folder) as scratch:
        train(
            case.spec,
            case.model,
            case.sequences,
            checkpoint_dir=Path(scratch) / "checkpoints",
            out_dir=Path(scratch) / "sae",
            progress=progress,
        )
    return end - start


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_sequences(tokens: int) -> Sequences:
    """Documents of 32 to 128 tokens with Zipf's frequencies, BOS first; `tokens` without BOS are
    one epoch's, and every tenth document is held out beside them."""
    random = np.random.default_rng(0)
    frequency = 1 / np.arange(1, VOCABULARY)
    lengths: list[int] = []
    trained = 0
    while trained < tokens:
        lengths.append(int(random.integers(32, CONTEXT + 1)))
        trained += lengths[-1] - 1 if len(lengths) % HELD_OUT_SHARE else 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = random.choice(
        np.arange(1, VOCABULARY), size=offsets[-1], p=frequency / frequency.sum()
    ).astype(np.uint16)
    flat[offsets[:-1]] = 0
    return Sequences(flat, offsets)


def make_model(folder: Path, d_model: int = D_MODEL) -> LanguageModel:
    """A random GPT-2 of four layers whose residual stream depends mostly on the token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=d_model, n_layer=4, n_head=4, n_positions=CONTEXT,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    made = GPT2LMHeadModel(config)
    torch.nn.init.normal_(made.transformer.wte.weight)
    made.save_pretrained(folder)
    words = {"<s>": 0, **{f"w{i}": i for i in range(1, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    return load_model("bench", folder)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
