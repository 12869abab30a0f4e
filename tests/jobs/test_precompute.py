"""`precompute` as a job: on the tokens that live requests get, and never two computations mixed."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from app.contract.jobs import CorpusFile, JobSpec, LoadSpec, PrecomputeSpec
from app.contract.live import ActivationsRequest
from app.store import lookup, read, write
from app.store.records import Feature
from app.store.tables import run_ranges
from tests.jobs.place import Place, idle_on_sqlite
from tests.worker.tiny import TEXT, save_model, save_sae
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.live.library import Library
from worker.live.prepare import prepare_capture
from worker.precompute.settings import Settings
from worker.progress import Cancelled, Progress, silent

CPU = torch.device("cpu")
D_SAE = 2_500


def go(
    place: Place,
    spec: JobSpec,
    job_id: str = "job",
    dtype: str = "float32",
    report: Progress = silent,
) -> dict[str, Any]:
    """Check a job and do its work here; its result."""
    settings = place.settings.model_copy(update={"dtype": dtype})
    job = Job(job_id, spec, Bench(settings, place.shelf, CPU, 1.0), report)
    check, work = KINDS[spec.kind]
    check(job)
    return work(job)


def loaded(place: Place, prepend_bos: bool | None, d_sae: int = D_SAE) -> PrecomputeSpec:
    """A job on a registered model, an SAE that was trained with BOS or without, and its texts."""
    save_model(place.folder / "model")
    metadata = {"prepend_bos": prepend_bos}
    save_sae(place.folder / "sae", "standard", d_sae=d_sae, metadata=metadata)
    (place.folder / "texts.txt").write_text("\n".join(text.replace("\n", " ") for text in TEXT))
    go(place, LoadSpec(model="m", path=str(place.folder / "model")))
    go(place, LoadSpec(model="m", sae="1-a", path=str(place.folder / "sae")))
    return PrecomputeSpec(
        model="m", saes=["1-a"], corpus=CorpusFile(path=str(place.folder / "texts.txt"))
    )


def live_values(place: Place, texts: list[str]) -> tuple[list[list[int]], list[np.ndarray]]:
    """Token ids of each text, and the activations of all features on them, as live answers."""
    library = Library(place.shelf, CPU, torch.float32)
    held = library.load(library.look_up("m", ["1-a"], engine=False))
    request = ActivationsRequest(
        model="m", saes=["1-a"], texts=texts, features={"1-a": list(range(D_SAE))}
    )
    capture = prepare_capture(request, held, place.settings)
    held.resident.captures.submit(capture)
    while held.resident.captures.waiting:
        held.resident.captures.step()
    return capture.texts, [np.asarray(found["1-a"]) for found in capture.answer.result()]


def check_evidence(place: Place, with_bos: bool) -> None:
    """Maxima and examples are where, and what, live answers for the texts of the corpus."""
    ids, live = live_values(place, [text.replace("\n", " ") for text in TEXT])
    bos = read.vocabulary(place.shelf, "m").special[0]
    assert all((text[0] == bos) is with_bos for text in ids)
    tolerance = 1e-5 * max(text.max() for text in live)
    for index in range(0, D_SAE, 50):
        feature = lookup.feature(place.shelf, "m", "1-a", index)
        counted = [text[np.not_equal(of, bos)] for of, text in zip(ids, live, strict=True)]
        strongest = max(text[:, index].max() for text in counted)
        assert abs(feature.max_activation - max(strongest, 0)) <= tolerance
        for example in feature.examples:
            inside = slice(example.offset, example.offset + len(example.token_ids))
            assert ids[example.sequence][inside] == example.token_ids
            at = example.offset + example.peak
            assert abs(live[example.sequence][at, index] - example.max) <= tolerance


@idle_on_sqlite
@pytest.mark.parametrize("prepend_bos", [True, False, None])
def test_evidence_is_what_live_requests_are_answered(idle: Place, prepend_bos: bool | None) -> None:
    go(idle, loaded(idle, prepend_bos))
    check_evidence(idle, with_bos=prepend_bos is not False)


def stop_in_features(
    phase: str,
    done: float,
    total: float,
    rate: float | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """Cancels once a range of features was committed."""
    if phase == "features" and done > 0:
        raise Cancelled


def evidence(place: Place) -> list[Feature]:
    found = [lookup.feature(place.shelf, "m", "1-a", index) for index in range(0, D_SAE, 50)]
    return [replace(feature, run_id="") for feature in found]


def test_a_job_that_goes_on_with_another_number_format_begins_its_ranges_anew(
    idle: Place,
) -> None:
    spec = loaded(idle, prepend_bos=True)
    with pytest.raises(Cancelled):
        go(idle, spec, dtype="bfloat16", report=stop_in_features)
    with idle.shelf.read() as connection:
        assert connection.execute(select(func.count()).select_from(run_ranges)).scalar_one() > 0
    go(idle, spec)
    resumed = evidence(idle)
    go(idle, spec, "in bfloat16", dtype="bfloat16")
    assert evidence(idle) != resumed
    shutil.rmtree(idle.settings.spill_dir)
    go(idle, spec, "afresh")
    assert evidence(idle) == resumed
    settings = read.sae(idle.shelf, "m", "1-a").provenance["settings"]
    assert (settings["dtype"], settings["device"]) == ("float32", "cpu")


def test_evidence_that_is_served_already_is_not_computed_again(idle: Place) -> None:
    spec = loaded(idle, prepend_bos=True)
    phases: list[str] = []
    first = go(idle, spec, "first")
    assert first["unchanged"] == []
    again = go(idle, spec, "again", report=lambda phase, *_: phases.append(phase))
    assert again == first | {"unchanged": ["1-a"]}
    assert "tokenize" in phases and not {"tokens", "features"} & set(phases)
    texts = idle.folder / "texts.txt"
    texts.write_text(texts.read_text() + "\nAnd there is more.")
    assert go(idle, spec, "more")["unchanged"] == []


@idle_on_sqlite
def test_a_text_file_that_grew_costs_its_new_text_alone(
    idle: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Settings(shard_tokens=500)
    monkeypatch.setattr(Settings, "on", classmethod(lambda cls, device: short))
    spec = loaded(idle, prepend_bos=True)
    texts = idle.folder / "texts.txt"
    before = "\n".join([texts.read_text()] * 20)
    texts.write_text(before)
    tokens: list[float] = []

    def note(phase: str, done: float, *_: object) -> None:
        if phase == "tokens":
            tokens.append(done)

    go(idle, spec, "first", report=note)
    total = tokens[-1]
    tokens.clear()
    texts.write_text(f"{before}\nAnd there is more.\n{before[::-1]}")
    assert go(idle, spec, "grown", report=note)["unchanged"] == []
    assert total - 600 < tokens[0] <= total and tokens[-1] > 2 * total
    grown = evidence(idle)
    shutil.rmtree(idle.settings.spill_dir)
    write.delete_sae(idle.shelf, "m", "1-a")
    go(idle, LoadSpec(model="m", sae="1-a", path=str(idle.folder / "sae")))
    tokens.clear()
    go(idle, spec, "fresh", report=note)
    assert tokens[0] == 0 and evidence(idle) == grown


@idle_on_sqlite
def test_a_job_that_goes_on_for_an_sae_put_in_the_place_of_its_own_makes_other_tokens(
    idle: Place,
) -> None:
    spec = loaded(idle, prepend_bos=True)
    with pytest.raises(Cancelled):
        go(idle, spec, report=stop_in_features)
    write.delete_sae(idle.shelf, "m", "1-a")
    other = save_sae(
        idle.folder / "other", "standard", d_sae=D_SAE, seed=5, metadata={"prepend_bos": False}
    )
    go(idle, LoadSpec(model="m", sae="1-a", path=str(other)))
    go(idle, spec)
    check_evidence(idle, with_bos=False)


def test_a_job_that_was_killed_after_its_last_run_was_served_ends_as_it_would_have(
    idle: Place,
) -> None:
    """Its own evidence is what it made, not what it found."""
    spec = loaded(idle, prepend_bos=True, d_sae=100)
    undisturbed = go(idle, spec)
    assert undisturbed["unchanged"] == [] and read.sae(idle.shelf, "m", "1-a").status == "ready"
    # The result is the one thing that the kill takes: it is stored behind all else.
    assert go(idle, spec) == undisturbed


@pytest.mark.parametrize("idle", ["sqlite"], indirect=True)
def test_a_job_leaves_as_much_spill_as_the_settings_allow(idle: Place) -> None:
    spec = loaded(idle, prepend_bos=True, d_sae=100)
    go(idle, spec, "first")
    assert any(idle.settings.spill_dir.rglob("shard.json"))
    idle.settings = idle.settings.model_copy(update={"spill_kept_mb": 0})
    texts = idle.folder / "texts.txt"
    texts.write_text(texts.read_text() + "\nAnd there is more.")
    assert go(idle, spec, "more")["unchanged"] == []
    assert not any(idle.settings.spill_dir.rglob("shard.json"))
