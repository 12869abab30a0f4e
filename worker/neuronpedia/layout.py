"""What is in a folder of evidence: which layout, which files, and what the source is called.

Neuronpedia     release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl (a row each), and in
                the folders features, activations and explanations batch-N.jsonl or .jsonl.gz
SAEDashboard    batch-N.json, all of some features in one file
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from app.errors import Invalid
from worker.neuronpedia.lines import rows_of
from worker.neuronpedia.values import Row

Kind = Literal["features", "activations", "explanations", "dashboards"]
ABOUT = (
    "release", "model", "sourceset", "source", "inference_hosts", "inference_hosts_on_source",
)  # fmt: skip
"""Files about the source as a whole, `.jsonl`; all but `model` and `source` may be missing."""
_KINDS: tuple[Kind, ...] = ("features", "activations", "explanations")
ABOUT_BYTES = 2**17
"""Size of such a file, which goes into every answer about the SAE."""
_BATCH = re.compile(r"batch-(0|[1-9][0-9]{0,8})\.(json|jsonl|jsonl\.gz)")


@dataclass(frozen=True)
class Batch:
    """One file of rows."""

    kind: Kind
    number: int
    path: Path
    name: str
    """Within its folder of evidence."""


@dataclass(frozen=True)
class Layout:
    """A folder of evidence."""

    format: Literal["neuronpedia", "saedashboard"]
    batches: list[Batch]
    """By kind, then by number."""
    about: dict[str, list[Row]] = field(default_factory=dict)
    """Rows about the source as a whole, by file."""


def look(folder: Path) -> Layout:
    """What there is.

    Raises:
        Invalid: it is neither layout, a file is missing, or one about the source cannot be read.
    """
    if (folder / "source.jsonl").exists() or (folder / "features").is_dir():
        kinds = [_batches(folder / kind, kind, f"{kind}/") for kind in _KINDS]
        _refuse_gaps(kinds)
        found = [one for kind in kinds for one in kind]
        if not kinds[0]:
            raise Invalid(f"{folder}/features has no batch-0.jsonl or batch-0.jsonl.gz.")
        return Layout("neuronpedia", found, _about(folder))
    found = _batches(folder, "dashboards", "")
    _refuse_gaps([found])
    if not found:
        raise Invalid(
            f"{folder} holds no evidence: Neuronpedia's layout has source.jsonl and "
            "features/batch-0.jsonl.gz, SAEDashboard's has batch-0.json."
        )
    return Layout("saedashboard", found)


def _batches(folder: Path, kind: Kind, prefix: str) -> list[Batch]:
    """The files of a kind, by number."""
    found: dict[int, Batch] = {}
    for path in sorted(folder.glob("batch-*")):
        match = _BATCH.fullmatch(path.name)
        if match is None or (match[2] == "json") != (kind == "dashboards"):
            continue
        one = Batch(kind, int(match[1]), _regular(path), prefix + path.name)
        if one.number in found:
            raise Invalid(
                f"{found[one.number].name} and {one.name} are the same batch; keep one of them."
            )
        found[one.number] = one
    return [found[number] for number in sorted(found)]


def _refuse_gaps(kinds: list[list[Batch]]) -> None:
    """Raises Invalid when a number is left out. They count from 0, or all kinds from 1."""
    first = min((kind[0].number for kind in kinds if kind), default=0)
    for kind in kinds:
        for number, one in enumerate(kind, min(first, 1)):
            if one.number != number:
                name = one.name.replace(f"-{one.number}.", f"-{number}.")
                raise Invalid(
                    f"{name} is missing, though there is {one.name}; bring all batches together."
                )


def _about(folder: Path) -> dict[str, list[Row]]:
    """The files about the source, by name."""
    found = {}
    for name in ABOUT:
        path = folder / f"{name}.jsonl"
        if path.exists():
            found[name] = _small(_regular(path))
        elif name in ("model", "source"):
            raise Invalid(f"{path.name} is missing from {folder}; it names the {name}.")
    return found


def _regular(path: Path) -> Path:
    """Raises Invalid for what may be waited for without end."""
    if not path.is_file():
        raise Invalid(f"{path.name} is not a regular file.")
    return path


def _small(path: Path) -> list[Row]:
    if path.stat().st_size > ABOUT_BYTES:
        raise Invalid(f"{path.name} is larger than {ABOUT_BYTES:,} bytes; it holds a row or a few.")
    found: list[Any] = []
    for place, _, row in rows_of(path, path.name):
        try:
            orjson.dumps(row)
        except orjson.JSONEncodeError as error:
            raise Invalid(f"{place}: it is nested too deeply to be kept ({error}).") from error
        found.append(row)
    if not found:
        raise Invalid(f"{path.name} is empty; it holds a row about the source.")
    return found
