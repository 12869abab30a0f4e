"""Commands that submit a job and watch it: `load`, `train`, `precompute`, `evaluate`,
`verify`.

Defaults and help texts are the specification's own (`app.contract.jobs`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from pydantic import BaseModel

from app.contract.jobs import (
    HELD_OUT,
    Architecture,
    Corpus,
    CorpusBundled,
    CorpusFile,
    EvaluateSpec,
    JobSpec,
    LoadSpec,
    PrecomputeSpec,
    TrainSpec,
    VerifySpec,
)

if TYPE_CHECKING:
    from app.cli.watch import Tell


def _option(spec: type[BaseModel], name: str, help: str | None = None) -> Any:
    field = spec.model_fields[name]
    default = ... if field.is_required() else field.get_default()
    return typer.Option(default, help=help or field.description)


_MODEL = typer.Argument(help="Id of the model.", metavar="MODEL")
_DETACH = typer.Option(False, "--detach", help="Print the job's id and do not wait for it.")
_CORPUS = typer.Option(
    None, help="Text to read: .txt (a document a line) or .jsonl; the bundled text when absent."
)


def load(
    model: str = _MODEL,
    path: str = typer.Argument(
        help="Folder of a Hugging Face model or a SAELens SAE, or bundled:storyworld, "
        "bundled:storyworld/SAE."
    ),
    sae: str | None = _option(LoadSpec, "sae"),
    detach: bool = _DETACH,
) -> None:
    """Register a model, or with --sae an SAE of a registered model."""
    if not path.startswith("bundled:"):
        path = _absolute(path)
    _submit(LoadSpec(model=model, sae=sae, path=path), detach)


def train(
    model: str = _MODEL,
    sae: str = typer.Argument(help=TrainSpec.model_fields["sae"].description, metavar="SAE"),
    hook_name: str = _option(TrainSpec, "hook_name", "Hook point to train on."),
    architecture: str = _option(TrainSpec, "architecture", ", ".join(get_args(Architecture))),
    d_sae: int | None = _option(TrainSpec, "d_sae"),
    k: int | None = _option(TrainSpec, "k"),
    l1_coefficient: float | None = _option(TrainSpec, "l1_coefficient"),
    training_tokens: int = _option(TrainSpec, "training_tokens", "Tokens to train on."),
    train_batch_tokens: int = _option(TrainSpec, "train_batch_tokens", "Tokens of a step."),
    lr: float = _option(TrainSpec, "lr", "Learning rate."),
    context_size: int | None = _option(TrainSpec, "context_size"),
    seed: int = _option(TrainSpec, "seed", "Of weights and the order of the text."),
    corpus: str | None = _CORPUS,
    text_field: str = _option(CorpusFile, "text_field"),
    documents: int = _option(CorpusBundled, "documents", "Documents of the bundled text."),
    text_seed: int = _option(CorpusBundled, "seed", "Seed of the bundled text."),
    detach: bool = _DETACH,
) -> None:
    """Train an SAE on a registered model, and register it."""
    _submit(
        TrainSpec.model_validate(
            {
                "model": model,
                "sae": sae,
                "hook_name": hook_name,
                "corpus": _corpus(corpus, text_field, documents, text_seed),
                "architecture": architecture,
                "d_sae": d_sae,
                "k": k,
                "l1_coefficient": l1_coefficient,
                "training_tokens": training_tokens,
                "train_batch_tokens": train_batch_tokens,
                "lr": lr,
                "context_size": context_size,
                "seed": seed,
            }
        ),
        detach,
    )


def precompute(
    model: str = _MODEL,
    saes: list[str] = typer.Argument(
        help="Ids of SAEs, or {layer}-mlp for the neurons of a layer.", metavar="SAE..."
    ),
    context_size: int | None = _option(PrecomputeSpec, "context_size"),
    corpus: str | None = _CORPUS,
    text_field: str = _option(CorpusFile, "text_field"),
    documents: int = _option(CorpusBundled, "documents", "Documents of the bundled text."),
    text_seed: int = _option(CorpusBundled, "seed", "Seed of the bundled text."),
    detach: bool = _DETACH,
) -> None:
    """Compute the evidence of every feature of some SAEs in one pass over a corpus."""
    _submit(
        PrecomputeSpec(
            model=model,
            saes=saes,
            corpus=_corpus(corpus, text_field, documents, text_seed),
            context_size=context_size,
        ),
        detach,
    )


def evaluate(
    model: str = _MODEL,
    sae: str = typer.Argument(help="Id of an SAE.", metavar="SAE"),
    tokens: int = _option(EvaluateSpec, "tokens"),
    context_size: int | None = _option(EvaluateSpec, "context_size"),
    corpus: str | None = _CORPUS,
    text_field: str = _option(CorpusFile, "text_field"),
    documents: int = typer.Option(HELD_OUT.documents, help="Documents of the bundled text."),
    text_seed: int = typer.Option(
        HELD_OUT.seed, help="Seed of the bundled text; SAEs are trained on that of 1."
    ),
    detach: bool = _DETACH,
) -> None:
    """Measure how well an SAE stands for its hook point, on text that it was not trained on; on the
    bundled text of the bundled model also how well its features tell the true concepts."""
    from app.cli.evaluated import tell_evaluated

    spec = EvaluateSpec(
        model=model,
        sae=sae,
        corpus=_corpus(corpus, text_field, documents, text_seed),
        tokens=tokens,
        context_size=context_size,
    )
    _submit(spec, detach, tell_evaluated)


def verify(
    model: str = _MODEL,
    sae: str = typer.Argument(help=VerifySpec.model_fields["sae"].description, metavar="SAE"),
    examples: int = _option(VerifySpec, "examples"),
    seed: int = _option(VerifySpec, "seed"),
    detach: bool = _DETACH,
) -> None:
    """Compute some stored examples again; exit code 1 unless they agree."""
    from app.cli.verified import tell_verified

    spec = VerifySpec(model=model, sae=sae, examples=examples, seed=seed)
    _submit(spec, detach, tell_verified)


def _corpus(path: str | None, text_field: str, documents: int, seed: int) -> Corpus:
    if path is None:
        return CorpusBundled(documents=documents, seed=seed)
    return CorpusFile(path=_absolute(path), text_field=text_field)


def _absolute(path: str) -> str:
    """As seen from here: the worker may have been started in another folder."""
    return str(Path(path).expanduser().absolute())


def _submit(spec: JobSpec, detach: bool, tell: "Tell | None" = None) -> None:
    from app.cli.watch import open_jobs, print_result, watch
    from app.settings import Settings

    settings = Settings()
    with open_jobs(settings) as jobs:
        view = jobs.submit(spec)
        if detach:
            print(view.id)
        else:
            watch(settings, jobs, view, tell or print_result)
