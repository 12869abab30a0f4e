"""What `saescope verify` prints of its result."""

from typing import Any

import typer

from app.console import out


def tell_verified(result: dict[str, Any]) -> None:
    """A few lines for a person; exit code 1 unless the evidence agrees."""
    lines = [_verdict(result), _counted(result), _largest(result)]
    out.print("\n".join(filter(None, lines)), markup=False)
    if not result["agrees"]:
        raise typer.Exit(1)


def _verdict(result: dict[str, Any]) -> str:
    evidence = f"The evidence of {result['sae']} ({result['model']})"
    if result["agrees"] is None:
        return f"{evidence} cannot be verified. {result['note']}"
    if result["agrees"]:
        return f"{evidence} agrees with its model, to {result['tolerance']:g} of each maximum."
    return f"{evidence} does not agree with its model; precompute it again."


def _counted(result: dict[str, Any]) -> str:
    line = f"{result['examples']:,} examples, {result['values']:,} values computed again"
    if result["at_edge"]:
        line += f"; rounding decides {result['at_edge']:,} of them, which do not count"
    return f"{line}."


def _largest(result: dict[str, Any]) -> str:
    worst = result["worst"]
    return (
        f"Largest difference {_shown(result['largest_difference'])}, relatively "
        f"{_shown(result['largest_relative'])}; the worst at feature {worst['feature']}, sequence "
        f"{worst['sequence']}, position {worst['position']}: stored {_shown(worst['stored'])}, "
        f"recomputed {_shown(worst['recomputed'])}."
    )


def _shown(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.6g}"
