"""What `saescope evaluate` prints of its result."""

from typing import Any

from rich.table import Table

from app.console import out
from app.contract.evaluation import ConceptScore, FullEvaluation, MeanScore

_NUMBERS = {
    "explained variance": "explained_variance",
    "CE loss score": "ce_loss_score",
    "KL divergence score": "kl_div_score",
    "L0": "l0",
    "dead features": "dead_features",
}
_BARS = " ▁▂▃▄▅▆▇█"


def tell_evaluated(result: dict[str, Any]) -> None:
    """The numbers, the densities, and where there is one the table of concepts."""
    found = FullEvaluation.model_validate(result["evaluation"])
    assert found.measured_on and found.density_histogram
    text = f"{found.measured_on.tokens:,} tokens of {found.measured_on.source}"
    lines = [f"{result['sae']} ({result['model']}), on {text}:"]
    lines += [f"  {name:<20} {_shown(getattr(found, field))}" for name, field in _NUMBERS.items()]
    bars = _bars(found.density_histogram.counts)
    lines += [f"  {'features by density':<20} 1e-6 {bars} 1"]
    out.print("\n".join(lines), markup=False)
    if found.concepts:
        out.print(_table(found))


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _bars(counts: list[int]) -> str:
    most = max(*counts, 1)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)


def _table(found: FullEvaluation) -> Table:
    """Contextual concepts first, each kind with its mean above."""
    table = Table("concept", "feature", box=None, pad_edge=False, title_justify="left")
    table.title = "F1 of the best of each kind, chosen on half of the documents, on the other half"
    for column in ("F1", "neuron", "random", "token"):
        table.add_column(column, justify="right")
    means = found.concept_recovery
    assert means
    if means.contextual:
        table.add_row("mean, contextual", "", *_means(means.contextual), style="bold")
    table.add_row("mean, all", "", *_means(means.all), style="bold")
    for row in sorted(found.concepts, key=lambda row: not row.contextual):
        table.add_row(row.concept, _rule(row), *_f1(row))
    return table


def _rule(row: ConceptScore) -> str:
    return f"{row.feature} {'>=' if row.sign > 0 else '<='} {row.threshold:.3g}"


def _means(mean: MeanScore) -> list[str]:
    return [f"{value:.2f}" for value in (mean.feature, mean.neuron, mean.random, mean.token)]


def _f1(row: ConceptScore) -> list[str]:
    return [f"{value:.2f}" for value in (row.f1, row.neuron_f1, row.random_f1, row.token_f1)]
