"""Imported features come through Neuronpedia's client with the values of their files."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuronpedia.requests.feature_request import FeatureRequest
from neuronpedia.requests.sae_feature_request import SAEFeatureRequest

from app.contract.jobs import ImportSpec
from app.settings import Settings
from app.store.engine import Shelf
from tests.api.conftest import NOBODY
from tests.api.server import ServerProcess
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run, run, shared_data

__all__ = ["run", "shared_data"]
INDICES = [0, 1, 2, 5, 6]
"""2 and 5 have two explanations, 6 is dead."""


@contextmanager
def serving(shelf: Shelf, folder: Path) -> Iterator[ServerProcess]:
    """The API as a process over a shelf, which is `shelf.db` of the folder or on Postgres."""
    url = shelf.reader.url.render_as_string(hide_password=False)
    database = None if shelf.is_sqlite else url
    server = ServerProcess(Settings(data_dir=folder, database_url=database, live_url=NOBODY))
    try:
        yield server.start()
    finally:
        server.stop()


def test_every_column_of_the_files(
    run: Run, shelf: Shelf, tmp_path: Path, point: Callable[[ServerProcess], None]
) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", INDICES))))
    with serving(shelf, tmp_path) as server:
        point(server)
        for index in INDICES:
            row = json.loads(SAEFeatureRequest().get(made.MODEL, made.SOURCE, str(index)).jsonData)
            _is_the_neuron(row, made.neuron(index))
            theirs = sorted(made.activations(index), key=lambda one: -one["maxValue"])
            for own, given in zip(row["activations"], theirs, strict=True):
                share = given["binContains"] if given["binContains"] >= 0 else None
                assert own == given | {"binContains": share, "source": made.SOURCE}
            _are_the_explanations(server, row, made.explanations(index))
            feature = FeatureRequest().get(made.MODEL, made.SOURCE, index)
            assert feature.density == made.neuron(index)["frac_nonzero"]
            assert [one.values for one in feature.activations] == [one["values"] for one in theirs]
        about = row["model"], row["source"], row["sourceSet"]
        for own, file in zip(about, ("model", "source", "sourceset"), strict=True):
            assert own.items() >= made.ABOUT[file][0].items()


def test_a_column_that_is_no_list_spoils_no_page(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "given", INDICES, gz=False)
    path = folder / "features/batch-0.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0] |= {"vector": None, "decoder_weights_dist": 5}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(ImportSpec(path=str(folder)))
    wanted = [{"modelId": made.MODEL, "layer": made.SOURCE, "index": index} for index in INDICES]
    with serving(shelf, tmp_path) as server:
        told = server.client.post("/api/features", json=wanted)
        assert told.status_code == 200, told.text
    assert [row["index"] for row in told.json()] == [str(index) for index in INDICES]
    assert told.json()[0]["vector"] == told.json()[0]["decoder_weights_dist"] == []


def _is_the_neuron(row: dict[str, Any], given: dict[str, Any]) -> None:
    emptied = {name: [] for name in given if name.startswith("correlated_features")}
    expected = given | emptied
    assert {name: row[name] for name in expected} == expected


def _are_the_explanations(
    server: ServerProcess, row: dict[str, Any], given: list[dict[str, Any]]
) -> None:
    columns = ("description", "typeName", "explanationModelName", "authorId")
    assert [{c: one[c] for c in columns} for one in row["explanations"]] == [
        {c: one[c] for c in columns} for one in given
    ]
    for own in row["explanations"]:
        assert "embedding" not in own
        read = server.client.get(f"/api/explanation/{own['id']}").json()
        assert read.items() >= own.items()
        assert read["neuron"]["index"] == row["index"]


def test_features_that_were_left_out(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", INDICES))))
    of = {"modelId": made.MODEL, "layer": made.SOURCE}
    with serving(shelf, tmp_path) as server:
        path = f"/api/feature/{made.MODEL}/{made.SOURCE}/3"
        missing = server.client.get(path)
        assert missing.status_code == 404 and "leaves it out" in missing.json()["error"]
        wanted = [{**of, "index": index} for index in (5, 3, 0)]
        rows = server.client.post("/api/features", json=wanted).json()
        assert [row["index"] for row in rows] == ["5", "0"]
        page = server.client.post("/api/features-offset", json=of).json()
        assert [row["index"] for row in page] == ["0", "1", "2", "5"]


def test_it_is_found_by_its_release(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", INDICES)), sae="3-mine"))
    with serving(shelf, tmp_path) as server:
        body = {"releaseName": "res-jb", "query": "words about"}
        found = server.client.post("/api/explanation/search-release", json=body).json()
        results = {(one["layer"], one["index"]): one for one in found["results"]}
        assert results.keys() == {("3-mine", "1"), ("3-mine", "2"), ("3-mine", "5")}
        first = results["3-mine", "2"]
        assert first["description"] == "words about thing 2 (0)"
        assert first["typeName"] == "oai_token-act-pair"
        assert first["explanationModelName"] == "gpt-4o-mini"
        strongest = sorted((one["maxValue"] for one in made.activations(2)), reverse=True)[:3]
        assert [one["maxValue"] for one in first["neuron"]["activations"]] == strongest
        # The set is ours: it follows from the id that the SAE has here.
        other = server.client.post(
            "/api/explanation/search-release", json={**body, "releaseName": "mine"}
        )
        assert other.status_code == 404
        source_set = server.client.get(f"/api/source-set/{made.MODEL}/mine").json()
        assert [one["id"] for one in source_set["sources"]] == ["3-mine"]


def test_the_real_batch(
    run: Run,
    shelf: Shelf,
    tmp_path: Path,
    shared_data: Path,
    point: Callable[[ServerProcess], None],
) -> None:
    real = shared_data / "neuronpedia" / "saedashboard_batch-1.json"
    (tmp_path / "given").mkdir()
    shutil.copy(real, tmp_path / "given" / "batch-1.json")
    run(ImportSpec(path=str(tmp_path / "given")))
    with serving(shelf, tmp_path) as server:
        point(server)
        for given in json.loads(real.read_bytes())["features"]:
            index = given["feature_index"]
            feature = FeatureRequest().get("gpt2-small", "0-res-jb", index)
            assert feature.density == given["frac_nonzero"]
            assert feature.index == str(index)
            row = json.loads(SAEFeatureRequest().get("gpt2-small", "0-res-jb", index).jsonData)
            for column in ("pos_str", "neg_str", "pos_values", "neg_values"):
                assert row[column] == given[column]
            for column in ("freq_hist_data_bar_heights", "logits_hist_data_bar_heights"):
                assert row[column] == given[column]
            _have_the_values(row, feature.activations, given["activations"])


def _have_the_values(row: dict[str, Any], read: list[Any], given: list[dict[str, Any]]) -> None:
    theirs = sorted(given, key=lambda one: -max(one["values"]))
    assert len(theirs) == len(read) == len(row["activations"])
    assert {repr(one.values) for one in read} == {repr(one["values"]) for one in theirs}
    assert [max(one.values) for one in read] == [max(one["values"]) for one in theirs]
    by_values: dict[tuple, list[dict[str, Any]]] = {}
    for one in theirs:
        by_values.setdefault((repr(one["tokens"]), repr(one["values"])), []).append(one)
    for own in row["activations"]:
        same = by_values[repr(own["tokens"]), repr(own["values"])]
        bounds = [(one["bin_min"], one["bin_max"]) for one in same]
        assert (own["binMin"], own["binMax"]) in bounds
