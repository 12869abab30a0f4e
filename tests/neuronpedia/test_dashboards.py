"""SAEDashboard's files, made up and real."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.api.features import body_of
from app.contract.jobs import ExportSpec, ImportSpec
from app.errors import Problem
from app.store import imports, lookup, read
from app.store.engine import Shelf
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run, runner

RENAMED = {
    "bin_min": "binMin",
    "bin_max": "binMax",
    "bin_contains": "binContains",
    "qualifying_token_index": "qualifyingTokenIndex",
    "dfa_values": "dfaValues",
    "dfa_maxValue": "dfaMaxValue",
    "dfa_targetIndex": "dfaTargetIndex",
}
NO_COLUMN = ("n_prompts_total", "n_tokens_in_prompt", "dataset")


def batch(features: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    """A file's contents."""
    names = {"model_id": "gpt2-small", "layer": 0, "sae_set": "res-jb", "sae_id_suffix": None}
    return {**names, "features": features, **changed}


def feature(index: object, **changed: Any) -> dict[str, Any]:
    """A feature with little in it."""
    example = {"bin_min": -1, "bin_max": 2, "tokens": ["a", "b"], "values": [0, 2]}
    return {"feature_index": index, "frac_nonzero": 0.5, "activations": [example], **changed}


def write(folder: Path, *batches: Any) -> Path:
    folder.mkdir()
    for number, one in enumerate(batches):
        (folder / f"batch-{number}.json").write_text(json.dumps(one))
    return folder


def test_the_real_batch_is_served_and_comes_back(
    run: Run, shelf: Shelf, tmp_path: Path, shared_data: Path
) -> None:
    real = shared_data / "neuronpedia" / "saedashboard_batch-1.json"
    (tmp_path / "given").mkdir()
    shutil.copy(real, tmp_path / "given" / "batch-1.json")
    given = json.loads(real.read_bytes())["features"]
    imported = run(ImportSpec(path=str(tmp_path / "given")))
    assert (imported["model"], imported["sae"], imported["features"]) == (
        "gpt2-small", "0-res-jb", 2,
    )  # fmt: skip
    out = tmp_path / "out"
    run(ExportSpec(model="gpt2-small", sae="0-res-jb", path=str(out)))
    written = made.contents(out)
    for theirs in given:
        _is_served(shelf, theirs)
        (neuron,) = [r for r in written["features"] if r["index"] == str(theirs["feature_index"])]
        own = [r for r in written["activations"] if r["index"] == neuron["index"]]
        _is_the_same(neuron, own, theirs)
    assert written["source.jsonl"][0]["dataset"] == "Skylion007/openwebtext"
    assert written["source.jsonl"][0]["num_prompts"] == 5_000
    run(ImportSpec(path=str(out), sae="0-again"))
    shutil.rmtree(tmp_path / "given")
    run(ExportSpec(model="gpt2-small", sae="0-again", path=str(tmp_path / "again")))
    again = made.contents(tmp_path / "again")
    for rows in again["features"], again["activations"], written["features"]:
        for row in rows:
            del row["layer"]
    for row in written["activations"]:
        del row["layer"]
    assert again["features"] == written["features"]
    assert sorted(map(json.dumps, again["activations"])) == sorted(
        map(json.dumps, written["activations"])
    )


def _is_served(shelf: Shelf, theirs: dict[str, Any]) -> None:
    body = body_of(*lookup.with_tokens(shelf, "gpt2-small", "0-res-jb", theirs["feature_index"]))
    assert body["density"] == theirs["frac_nonzero"]
    largest = max(max(one["values"]) for one in theirs["activations"])
    assert body["max_activation"] == pytest.approx(largest, rel=1e-6)
    assert sum(len(band["examples"]) for band in body["bands"]) == len(theirs["activations"])
    assert [one["token"] for one in body["logits"]["top"]] == theirs["pos_str"]
    assert body["histogram"]["counts"] == tuple(theirs["freq_hist_data_bar_heights"])


def _is_the_same(neuron: dict, own: list[dict], theirs: dict[str, Any]) -> None:
    """All that the file has, in the columns that Neuronpedia has for it."""
    for name, value in theirs.items():
        if name not in ("feature_index", "activations", *NO_COLUMN):
            assert neuron[name] == value, name
    expected = [{RENAMED.get(k, k): v for k, v in one.items()} for one in theirs["activations"]]
    found = [{name: row[name] for name in expected[0]} for row in own]
    key = lambda row: json.dumps(row, sort_keys=True)
    assert sorted(found, key=key) == sorted(expected, key=key)


def test_what_has_no_column_stays_with_the_feature(sqlite_shelf: Shelf, tmp_path: Path) -> None:
    run = runner(sqlite_shelf, tmp_path)
    folder = write(tmp_path / "d", batch([feature(4, new={"a": 1}, dataset="x")]))
    run(ImportSpec(path=str(folder)))
    run_id = read.sae(sqlite_shelf, "gpt2-small", "0-res-jb").run_id
    assert run_id
    assert imports.kept(sqlite_shelf, run_id, [4])[4]["other"] == {"new": {"a": 1}, "dataset": "x"}
    exported = run(ExportSpec(model="gpt2-small", sae="0-res-jb"))
    folder = Path(exported["path"])
    assert folder.parent == tmp_path / "data/exports/gpt2-small"
    path = folder / "features/batch-0.jsonl.gz"
    assert "new" not in json.loads(gzip.decompress(path.read_bytes()))
    assert run(ExportSpec(model="gpt2-small", sae="0-res-jb"), id="again") == exported


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([[]], "batch-0.json: this is no JSON object"),
        ([{"features": 1}], "`features` is no list"),
        ([batch([1])], "batch-0.json, feature 1 of the list: this is no JSON object"),
        ([batch([], layer="0")], "`layer` is '0'; it is a whole number"),
        ([batch([])], "There is no feature in"),
        ([batch([feature(None)])], "feature 1 of the list: `index` is 'None'"),
        ([batch([feature(1), feature(1)])], "feature 1 is here a second time"),
        ([batch([feature(2), feature(1), feature(3)])], "feature 1 comes behind feature 2"),
        (
            [batch([feature(1)]), batch([feature(1)])],
            "batch-1.json, feature 1 of the list: feature",
        ),
        ([batch([feature(1)]), batch([feature(2)], layer=1)], "`layer` is '1-res-jb', but this"),
        ([batch([feature(1, activations=None)])], "`activations` is no list of JSON objects"),
        ([batch([feature(1, activations=[{}])])], "activation 1: `tokens` has 0 entries"),
    ],
)
def test_what_is_wrong_is_named(
    sqlite_shelf: Shelf, tmp_path: Path, batches: list, says: str
) -> None:
    run = runner(sqlite_shelf, tmp_path)
    with pytest.raises(Problem) as refused:
        run(ImportSpec(path=str(write(tmp_path / "d", *batches))))
    assert says in refused.value.detail
    assert refused.value.status == 422
