"""The finished SAE as a folder: SAELens' own files, what we measured, and how it came about.

`cfg.json`, `sae_weights.safetensors` and `sparsity.safetensors` are what SAELens reads;
`saescope.json` holds evaluation and provenance; `curve.json` the metrics over training. The bytes
are a function of the run: no times, no paths, keys in order.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sae_lens.constants import SAE_CFG_FILENAME, SPARSITY_FILENAME
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import save_file

from worker.durable import write_folder
from worker.train.member import Curve

SUMMARY = "saescope.json"
CURVE = "curve.json"
CURVE_POINTS = 100
"""Of the curve in a job's result."""


def export(
    trainer: SAETrainer,
    curve: Curve,
    provenance: dict[str, Any],
    evaluate: Callable[[Path], dict[str, Any]],
    folder: Path,
) -> None:
    """Write `folder`, whole or not at all. `evaluate` gets the SAELens folder before it is named.

    The trainer's weights must be folded.
    """

    def fill(partial: Path) -> None:
        trainer.sae.save_inference_model(partial)
        _normalise(partial / SAE_CFG_FILENAME)
        save_file({"sparsity": trainer.log_feature_sparsity}, partial / SPARSITY_FILENAME)
        _write_json(partial / CURVE, asdict(curve))
        summary = {"evaluation": evaluate(partial), "provenance": provenance}
        _write_json(partial / SUMMARY, summary)

    write_folder(folder, fill)


def provenance_of(folder: Path) -> dict[str, Any] | None:
    """The provenance of a finished SAE, None when there is none in `folder`."""
    path = folder / SUMMARY
    return json.loads(path.read_text())["provenance"] if path.exists() else None


def curve_of(folder: Path) -> dict[str, Any]:
    """The curve of a finished SAE in few points and digits, the last point always: `tokens`, and
    `metrics` by name."""
    curve = json.loads((folder / CURVE).read_text())
    count = len(curve["tokens"])
    stride = -(-count // CURVE_POINTS)
    points = range((count - 1) % stride, count, stride)
    return {
        "tokens": [curve["tokens"][point] for point in points],
        "metrics": {
            name: [float(f"{values[point]:.5g}") for point in points]
            for name, values in curve["metrics"].items()
        },
    }


def _normalise(path: Path) -> None:
    """SAELens writes keys in the order of a set, and the device that it trained on."""
    config = json.loads(path.read_text())
    _write_json(path, {**config, "device": "cpu"})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
