"""Our training loop against SAELens', architecture by architecture, over three seeds.

- language: SAEs of storyworld's residual stream by our loop and by SAELens' runner (`bench.runner`),
  from the same weights, on the same rows of tokens, in an order of their own; judged on text that was
  held out.
- toy: `sae_lens.synthetic`, by our loop and by SAELens' own: the share of the planted features that is
  found (`bench.synthetic`).

    python -m bench.fidelity [--quick] [language] [toy] [-a ARCHITECTURE ...]

The distance of two means is given in pooled standard deviations, sqrt((s1² + s2²) / 2), or in thousandths
of the mean where seeds differ by less. Of two times three runs that differ by their seed alone, it is above
3.76 one time in a hundred (Student's t with four degrees of freedom, times sqrt(2/3)). Batchtopk and
Matryoshka SAEs are saved with one threshold for all features, a moving average over a hundred steps in
SAELens, which a short run leaves too low: only a whole run compares their L0. A quick run trains few steps,
and three architectures.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from sae_lens import SAE

from app.contract.jobs import Architecture, TrainSpec
from bench.report import promise, report
from bench.runner import packed, quality, split, train_by_saelens
from bench.synthetic import make_toy, toy_spec, train_toy_by_saelens
from worker.demo.generator import CORPUS_START, documents
from worker.demo.loss import SHIPPED
from worker.models import LanguageModel, load_model
from worker.tokens import Sequences, tokenize_corpus
from worker.train.run import train
from worker.train.settings import resolve

PARTS = ("language", "toy")
SEEDS = (0, 1, 2)
HOOK = "blocks.2.hook_resid_post"
MEASURES = ("explained_variance", "l0", "ce_loss_score")
NOISE = 3.76
QUICK = ("topk", "standard", "jumprelu")

Runs = list[dict[str, float]]
"""What each seed came to, by measure."""


def main(quick: bool, parts: list[str], architectures: Iterable[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if "language" in parts:
            compare_on_language(Path(scratch), architectures, 60 if quick else 1_000)
        if "toy" in parts:
            compare_on_toy(Path(scratch), architectures, 200 if quick else 2_000)
    report()


def compare_on_language(folder: Path, architectures: Iterable[str], steps: int) -> None:
    """Train on storyworld by both, and record how far apart they are."""
    batch, context = 512, 128
    model = load_model("storyworld", SHIPPED)
    rows = make_rows(model, steps * batch, context)
    training, held_out = split(model, rows)
    for architecture in architectures:
        ours, theirs = Runs(), Runs()
        for seed in SEEDS:
            spec = TrainSpec.model_validate({
                "model": model.id, "sae": "2-fidelity", "hook_name": HOOK, "seed": seed,
                "architecture": architecture, "context_size": context, "d_sae": 1_024,
                "training_tokens": steps * batch, "train_batch_tokens": batch,
            })  # fmt: skip
            settings = resolve(spec, model)
            own, peer = (folder / f"{architecture} {seed} {by}" for by in ("ours", "theirs"))
            train(spec, model, rows, checkpoint_dir=folder / "checkpoints", out_dir=own)
            train_by_saelens(settings, model, training, peer)
            ours.append(quality(model, own, held_out))
            theirs.append(quality(model, peer, held_out))
        compare(architecture, MEASURES, ours, theirs)


def make_rows(model: LanguageModel, tokens: int, context: int) -> Sequences:
    """Rows of the bundled text, about as many as a run of so many tokens reads once."""
    texts = (document.text for document in documents(1, CORPUS_START, tokens // 80 + 100))
    return packed(tokenize_corpus(model, texts, context), context, model.bos_id)


def compare_on_toy(folder: Path, architectures: Iterable[str], steps: int) -> None:
    """Train on the toy by both, and record how far apart they are."""
    toy = make_toy(folder / "toy")
    for architecture in architectures:
        ours, theirs = Runs(), Runs()
        for seed in SEEDS:
            spec, out = toy_spec(architecture, steps, seed), folder / f"{architecture} {seed} toy"
            train(
                spec, toy.model, toy.sequences, checkpoint_dir=folder / "checkpoints", out_dir=out
            )
            ours.append({"MCC": toy.mcc(SAE.load_from_disk(out).W_dec)})
            theirs.append({"MCC": toy.mcc(train_toy_by_saelens(toy, spec).W_dec)})
        compare(f"{architecture}, toy", ("MCC",), ours, theirs)


def compare(title: str, measures: Iterable[str], ours: Runs, theirs: Runs) -> None:
    """Print means, deviations and distances, and record the distances."""
    table = Table("measure", "ours", "SAELens'", "apart, in deviations", title=title)
    for measure in measures:
        own, peer = ([run[measure] for run in runs] for runs in (ours, theirs))
        distance = apart(own, peer)
        table.add_row(measure, spread(own), spread(peer), f"{distance:+.2f}")
        promise("ours and SAELens' apart", f"{title}, {measure}", abs(distance), f"<= {NOISE}")
    Console().print(table)


def apart(one: list[float], other: list[float]) -> float:
    """Difference of the means in pooled standard deviations, none of them below a thousandth of the
    mean."""
    pooled = ((statistics.variance(one) + statistics.variance(other)) / 2) ** 0.5
    mean = statistics.mean(other)
    return (statistics.mean(one) - mean) / max(pooled, abs(mean) / 1_000)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps on three architectures")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; both when none is named")
    parser.add_argument("-a", dest="only", nargs="+", choices=get_args(Architecture))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    architectures = options.only or (QUICK if options.quick else get_args(Architecture))
    main(options.quick, options.parts or list(PARTS), architectures)
