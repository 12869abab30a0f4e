"""SAEDashboard's `batch-N.json` → Neuronpedia's rows.

Columns get the names that Neuronpedia gives them. What it has no column for stays with the feature
under `OTHER`, and is not written again into rows, where Neuronpedia would not know it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from app.errors import Invalid
from worker.neuronpedia.layout import Kind
from worker.neuronpedia.lines import parsed
from worker.neuronpedia.values import Refused, Row, at, dumped, text

OTHER = "_other"
"""Column of a row for what its source says and Neuronpedia has no column for."""
FILE_BYTES = 2**31
"""Size of a file, which is read into memory whole."""

_NAMES = {
    "bin_min": "binMin",
    "bin_max": "binMax",
    "bin_contains": "binContains",
    "qualifying_token_index": "qualifyingTokenIndex",
    "dfa_values": "dfaValues",
    "dfa_maxValue": "dfaMaxValue",
    "dfa_targetIndex": "dfaTargetIndex",
    "loss_values": "lossValues",
    "logit_contributions": "logitContributions",
}
_COLUMN = re.compile(
    r"(neuron_alignment|correlated_neurons|correlated_features|neg|pos|freq_hist|logits_hist)_.*"
    r"|frac_nonzero|decoder_weights_dist|vector|vectorLabel|hookName|topkCosSim.*|maxActApprox"
)
"""Columns of Neuronpedia's table that SAEDashboard has too."""
_OF_SOURCE = {
    "num_prompts": "n_prompts_total",
    "num_tokens_in_prompt": "n_tokens_in_prompt",
    "dataset": "dataset",
}
_NOT_OTHER = ("feature_index", "activations")


def batch_of(path: Path, name: str) -> Row:
    """A file's contents. Raises Invalid when it is no such file."""
    if path.stat().st_size > FILE_BYTES:
        raise Invalid(f"{name} is larger than {FILE_BYTES:,} bytes; write smaller batches.")
    found = parsed(name, path.read_bytes(), FILE_BYTES)
    if type(found.get("features")) is not list:
        raise Invalid(f"{name}: `features` is no list; SAEDashboard writes one.", place=name)
    return found


def source_of(path: Path, name: str) -> Row:
    """What a file tells of its source: the columns of `source.jsonl` that it has."""
    batch = batch_of(path, name)
    with at(name):
        told: Row = {"modelId": text(batch, "model_id"), "id": _source(batch)}
    for one in batch["features"][:1]:
        if type(one) is dict:
            told |= {ours: one[theirs] for ours, theirs in _OF_SOURCE.items() if theirs in one}
    return told


def features_of(path: Path, name: str) -> Iterator[tuple[Kind, str, bytes, Row]]:
    """Kind, place, bytes and row of each feature and of its activations."""
    batch = batch_of(path, name)
    with at(name):
        model, source = text(batch, "model_id"), _source(batch)
    for number, feature in enumerate(batch["features"], 1):
        place = f"{name}, feature {number} of the list"
        if type(feature) is not dict:
            raise Invalid(f"{place}: this is no JSON object.", place=place)
        index = feature.get("feature_index")
        index = str(index) if type(index) is int else index
        of = {"modelId": model, "layer": source, "index": index}
        yield _row("features", place, _neuron(of, feature))
        activations = feature.get("activations")
        if type(activations) is not list or not all(type(one) is dict for one in activations):
            raise Invalid(f"{place}: `activations` is no list of JSON objects.", place=place)
        for n, one in enumerate(activations, 1):
            yield _row("activations", f"{place}, activation {n}", _renamed(one) | of)


def _renamed(row: Row) -> Row:
    return {_NAMES.get(key, key): value for key, value in row.items()}


def _row(kind: Kind, place: str, row: Row) -> tuple[Kind, str, bytes, Row]:
    with at(place):
        return kind, place, dumped(row), row


def _neuron(of: Row, feature: Row) -> Row:
    columns = {key: value for key, value in feature.items() if _COLUMN.fullmatch(key)}
    other = {
        key: value for key, value in feature.items() if key not in columns and key not in _NOT_OTHER
    }
    return {**columns, **of, OTHER: other}


def _source(batch: Row) -> str:
    """The source's id, as Neuronpedia's converter makes it."""
    layer, suffix = batch.get("layer"), text(batch, "sae_id_suffix")
    if type(layer) is not int:
        raise Refused(f"`layer` is {str(layer)[:40]!r}; it is a whole number")
    return f"{layer}-{text(batch, 'sae_set')}" + (f"__{suffix}" if suffix else "")
