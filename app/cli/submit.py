"""Commands that submit a job and watch it: `load`, `train`, `precompute`, `evaluate`,
`verify`, `import`, `export`.

Defaults and help texts are the specification's own (`app.contract.jobs`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from pydantic import BaseModel

from app.contract.jobs import (
    EVIDENCE,
    HELD_OUT,
    HUB,
    AlsoTrain,
    Architecture,
    Corpus,
    CorpusBundled,
    CorpusFile,
    EvaluateSpec,
    ExportSpec,
    ImportSpec,
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
    None,
    help="Text to read: .txt (a document a line), .jsonl, .parquet or .arrow, a folder of these or "
    "of a saved dataset, or hub:OWNER/NAME; the bundled text when absent.",
)
_DIFFERS = ", ".join(name for name in AlsoTrain.model_fields if name != "sae")
_ALSO = typer.Option(
    [],
    metavar="SAE[,NAME=VALUE]...",
    help="One more SAE from the same forward of the model; repeat it for more. Its id, then what "
    f"differs of {_DIFFERS}: --also 2-wide,d_sae=4096 --also 2-relu,architecture=standard",
)


def load(
    model: str = _MODEL,
    path: str = typer.Argument(
        help="Folder of a Hugging Face model or of an SAE, saelens:RELEASE/SAE (see `saescope "
        "catalog`), bundled:storyworld, or bundled:storyworld/SAE."
    ),
    sae: str | None = _option(LoadSpec, "sae"),
    hook_name: str | None = _option(LoadSpec, "hook_name"),
    hook_name_out: str | None = _option(LoadSpec, "hook_name_out"),
    detach: bool = _DETACH,
) -> None:
    """Register a model, or with --sae an SAE of a registered model."""
    if not path.startswith(("bundled:", "saelens:")):
        path = _absolute(path)
    spec = LoadSpec(
        model=model, sae=sae, path=path, hook_name=hook_name, hook_name_out=hook_name_out
    )
    _submit(spec, detach)


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
    also: list[str] = _ALSO,
    corpus: str | None = _CORPUS,
    text_field: str = _option(CorpusFile, "text_field"),
    documents: int = _option(CorpusBundled, "documents", "Documents of the bundled text."),
    text_seed: int = _option(CorpusBundled, "seed", "Seed of the bundled text."),
    detach: bool = _DETACH,
) -> None:
    """Train an SAE on a registered model, or several with --also, and register them."""
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
                "also": [_more(text) for text in also],
            },
            strict=False,  # numbers in --also are text
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
    documents: int = typer.Option(EVIDENCE.documents, help="Documents of the bundled text."),
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


def import_(
    path: str = typer.Argument(help=ImportSpec.model_fields["path"].description, metavar="FOLDER"),
    model: str | None = _option(ImportSpec, "model"),
    sae: str | None = _option(ImportSpec, "sae"),
    detach: bool = _DETACH,
) -> None:
    """Take over the evidence that Neuronpedia or SAEDashboard wrote for an SAE."""
    path = path if path.startswith("bundled:") else _absolute(path)
    _submit(ImportSpec(path=path, model=model, sae=sae), detach)


def export(
    model: str = _MODEL,
    sae: str = typer.Argument(help=ExportSpec.model_fields["sae"].description, metavar="SAE"),
    path: str | None = _option(ExportSpec, "path"),
    detach: bool = _DETACH,
) -> None:
    """Write the evidence of an SAE in Neuronpedia's layout."""
    _submit(ExportSpec(model=model, sae=sae, path=path and _absolute(path)), detach)


def _more(text: str) -> dict[str, str]:
    """What `--also` names, by field."""
    sae, *settings = text.split(",")
    pairs = [setting.partition("=") for setting in settings]
    if not all(equals for _, equals, _ in pairs):
        raise typer.BadParameter(f"{text}: write SAE,NAME=VALUE, with NAME one of {_DIFFERS}.")
    return {"sae": sae, **{name.replace("-", "_"): value for name, _, value in pairs}}


def _corpus(path: str | None, text_field: str, documents: int, seed: int) -> Corpus:
    if path is None:
        return CorpusBundled(documents=documents, seed=seed)
    path = path if path.startswith(HUB) else _absolute(path)
    return CorpusFile(path=path, text_field=text_field)


def _absolute(path: str) -> str:
    """As seen from here: the worker may have been started in another folder."""
    return str(Path(path).expanduser().absolute())


def _submit(spec: JobSpec, detach: bool, tell: "Tell | None" = None) -> None:
    from app.cli.watch import note, open_jobs, print_result, watch
    from app.settings import Settings

    settings = Settings()
    with open_jobs(settings) as jobs:
        view = jobs.submit(spec)
        note(settings, f"{spec.kind}: job {view.id}")
        if detach:
            print(view.id)
        else:
            watch(settings, jobs, view, tell or print_result)
