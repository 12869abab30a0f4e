"""Imported evidence is looked up as computed evidence is, without the model being there."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.api import conditional
from app.api.features import body_of
from app.contract.jobs import ExportSpec, ImportSpec
from app.contract.search import SearchRequest
from app.errors import Conflict
from app.main import create_app
from app.settings import Settings
from app.store import lookup, read, served
from app.store.engine import Shelf
from app.store.garbage import collect_garbage
from app.store.tables import corpora, corpus_chunks, corpus_vocabularies, features, kept_columns
from app.store.write import delete_sae
from tests.neuronpedia import made
from tests.neuronpedia.conftest import Run, runner
from tests.store import builders
from worker.live.library import Library
from worker.live.search.sources import Sources

ADDRESS = f"/v1/models/{made.MODEL}/saes/{made.SOURCE}/features"


def test_lookups_answer_with_what_the_files_said(
    run: Run, shelf: Shelf, shelf_url: str, tmp_path: Path
) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", [0, 1, 2, 3, 5, 6]))))
    settings = Settings(
        data_dir=tmp_path / "served",
        database_url=shelf_url if shelf_url.startswith("postgres") else None,
    )
    settings.data_dir.mkdir()
    if shelf_url.startswith("sqlite"):
        settings.__dict__["shelf_url"] = shelf_url
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        model = client.get(f"/v1/models/{made.MODEL}").json()
        assert model["source"] == "imported evidence; the model's files are not here"
        assert (model["n_layers"], model["d_model"], model["hook_points"]) == (12, 768, {})
        sae = client.get(f"/v1/models/{made.MODEL}/saes/{made.SOURCE}").json()
        assert (sae["status"], sae["architecture"], sae["d_sae"]) == ("ready", "imported", 7)
        assert (sae["layer"], sae["hook_name"]) == (7, "blocks.7.hook_resid_pre")
        assert not sae["steerable"] and "imported" in sae["steerable_reason"]
        listed = client.get(ADDRESS).json()["items"]
        assert [one["index"] for one in listed] == [0, 1, 2, 3, 5, 6]
        assert listed[2]["label"] == "words about thing 2 (0)"
        assert [one["index"] for one in client.get(f"{ADDRESS}?q=thing+2").json()["items"]] == [2]
        assert client.get(f"{ADDRESS}?q=ultrasound").json()["items"] == listed
        _is_as_given(client.get(f"{ADDRESS}/2").json(), 2)
        dead = client.get(f"{ADDRESS}/6").json()
        assert (dead["max_activation"], dead["bands"], dead["label"]) == (0, [], "")
        assert client.get(f"{ADDRESS}/4").status_code == 404
        assert (
            "what was imported for SAE '7-res-jb' leaves it out"
            in client.get(f"{ADDRESS}/4").json()["detail"]
        )
        steered = {
            "model": made.MODEL, "prompt": "x",
            "steering": [{"sae": made.SOURCE, "feature": 2, "strength": 1}],
        }  # fmt: skip
        assert client.post("/v1/steer", json=steered).status_code == 422
        calibrated = {"model": made.MODEL, "sae": made.SOURCE, "feature": 2}
        assert client.post("/v1/steer/calibrate", json=calibrated).status_code in (409, 422)


@pytest.mark.parametrize("address", [f"{ADDRESS}/2", f"/api/feature/{made.MODEL}/{made.SOURCE}/2"])
def test_large_features_are_made_beside_the_event_loop(
    run: Run,
    shelf: Shelf,
    shelf_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", [2]))))
    settings = Settings(
        data_dir=tmp_path, database_url=shelf_url if shelf_url.startswith("postgres") else None
    )
    threads: list[int] = []
    dumped = orjson.dumps

    def dumps(*given: Any, **options: Any) -> bytes:
        threads.append(threading.get_ident())
        return dumped(*given, **options)

    with TestClient(create_app(settings), base_url="http://localhost") as client:
        small = client.get(address)
        monkeypatch.setattr(conditional, "MANY_VALUES", 0)
        monkeypatch.setattr(lookup, "_LARGE_BYTES", 0)
        large = client.get(address)
        assert (large.status_code, large.content) == (200, small.content)
        loop = client.portal.call(threading.get_ident)
        monkeypatch.setattr(orjson, "dumps", dumps)
        client.get(address)
        assert threads and loop not in threads


def _is_as_given(feature: dict, index: int) -> None:
    row, examples = made.neuron(index), made.activations(index)
    assert feature["density"] == row["frac_nonzero"]
    assert feature["max_activation"] == pytest.approx(row["maxActApprox"], rel=1e-6)
    assert feature["histogram"]["counts"] == row["freq_hist_data_bar_heights"]
    assert len(feature["histogram"]["edges"]) == 51
    assert [one["token"] for one in feature["logits"]["top"]] == row["pos_str"]
    assert [one["token"] for one in feature["logits"]["bottom"]] == row["neg_str"]
    assert [one["index"] for one in feature["neighbors"]] == row["topkCosSimIndices"]
    assert [band["name"] for band in feature["bands"]] == ["top", "q5", "q4", "q3", "q2", "q1"]
    top = sorted(examples[:5], key=lambda one: -one["maxValue"])
    served = feature["bands"][0]["examples"] + [
        example for band in feature["bands"][1:] for example in band["examples"]
    ]
    for ours, theirs in zip(served, top + examples[5:], strict=True):
        assert ours["tokens"] == theirs["tokens"]
        assert ours["text"] == "".join(theirs["tokens"])
        assert ours["values"] == pytest.approx(theirs["values"], rel=1e-6)
        assert ours["peak"] == theirs["maxValueTokenIndex"]


def test_computed_evidence_comes_back_as_it_was(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    builders.fill(shelf, d_sae=100)
    out = str(tmp_path / "out")
    assert run(ExportSpec(model="tiny", sae="0-res", path=out))["features"] == 100
    run(ImportSpec(path=out, sae="0-again"))
    for index in range(100):
        before = body_of(*lookup.with_tokens(shelf, "tiny", "0-res", index))
        after = body_of(*lookup.with_tokens(shelf, "tiny", "0-again", index))
        for name in ("index", "label", "density", "max_activation", "neighbors"):
            assert before[name] == after[name], name
        assert before["histogram"]["counts"] == after["histogram"]["counts"]
        assert before["histogram"]["edges"] == pytest.approx(after["histogram"]["edges"], abs=1e-5)
        for end in ("top", "bottom"):
            assert before["logits"][end] == after["logits"][end]
        ours, theirs = _examples(before), _examples(after)
        assert ours == theirs


def _examples(body: dict) -> list[tuple]:
    found = [
        (example["tokens"], example["values"].tolist(), example["peak"])
        for band in body["bands"]
        for example in band["examples"]
    ]
    return sorted(found, key=repr)


def test_the_same_again_changes_nothing_and_other_evidence_is_refused(
    run: Run, shelf: Shelf, tmp_path: Path
) -> None:
    given = made.write(tmp_path / "given", [0, 1, 2])
    first = run(ImportSpec(path=str(given)))
    assert run(ImportSpec(path=str(given)), id="another")["run"] == first["run"]
    other = made.write(tmp_path / "other", [0, 1])
    with pytest.raises(Exception, match="in use with other contents"):
        run(ImportSpec(path=str(other)), id="third")
    assert read.sae(shelf, made.MODEL, made.SOURCE).run_id == first["run"]
    assert run(ImportSpec(path=str(other), sae="mine"), id="fourth")["features"] == 2


def test_what_is_deleted_is_collected(run: Run, shelf: Shelf, tmp_path: Path) -> None:
    run(ImportSpec(path=str(made.write(tmp_path / "given", [0, 1, 2]))))
    delete_sae(shelf, made.MODEL, made.SOURCE)
    collect_garbage(shelf, tmp_path / "data", timedelta(0))
    with shelf.read() as connection:
        for table in (features, kept_columns, corpora, corpus_chunks, corpus_vocabularies):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0


def test_live_requests_say_that_only_evidence_is_there(sqlite_shelf: Shelf, tmp_path: Path) -> None:
    given = made.write(tmp_path / "given", [0, 1])
    run = runner(sqlite_shelf, tmp_path)
    builders.fill(sqlite_shelf)
    run(ImportSpec(path=str(given)))
    run(ImportSpec(path=str(given), model="tiny"), id="another")
    library = Library(sqlite_shelf, torch.device("cpu"), torch.float32)
    with pytest.raises(Conflict, match="is known only from imported evidence"):
        library.look_up(made.MODEL, [], engine=True)
    with pytest.raises(Conflict, match="only evidence was imported"):
        library.look_up("tiny", [made.SOURCE], engine=False)
    assert library.look_up("tiny", ["0-res"], engine=False).saes.keys() == {"0-res"}
    sources = Sources(library)
    assert sources.choose(SearchRequest(model="tiny", text="x")).keys() == {"0-res"}
    with pytest.raises(Conflict):
        sources.choose(SearchRequest(model=made.MODEL, text="x"))
    with pytest.raises(Conflict, match="was imported: its text is not here"):
        served.run(sqlite_shelf, "tiny", made.SOURCE)
