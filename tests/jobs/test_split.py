"""`precompute` splits neurons into the features of SAEs on their hook point."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from app.contract.jobs import CorpusFile, LoadSpec, PrecomputeSpec
from app.errors import NotFound
from app.store import neurons, read, write
from app.store.neurons import Neuron
from app.store.tables import neuron_splits, splits
from tests.jobs.place import Place
from tests.jobs.test_precompute import go
from tests.worker.tiny import D_MLP, TEXT, save_model, save_sae
from worker.jobs import precompute
from worker.progress import Cancelled
from worker.split import run

HOOK = "blocks.1.mlp.hook_post"


def loaded(place: Place) -> PrecomputeSpec:
    """A job on a registered model's neurons and one of two SAEs on them."""
    save_model(place.folder / "model")
    go(place, LoadSpec(model="m", path=str(place.folder / "model")))
    for seed, name in enumerate(("1-a", "1-b")):
        folder = save_sae(
            place.folder / name, hook_name=HOOK, d_in=D_MLP, d_sae=64, k=8 - seed, seed=seed
        )
        go(place, LoadSpec(model="m", sae=name, path=str(folder)))
    (place.folder / "texts.txt").write_text("\n".join(text.replace("\n", " ") for text in TEXT))
    corpus = CorpusFile(path=str(place.folder / "texts.txt"))
    return PrecomputeSpec(model="m", saes=["1-mlp", "1-a"], corpus=corpus)


def found(place: Place, sae: str = "1-a") -> list[Neuron]:
    """All neurons as they are served, without the names of their runs."""
    of = [neurons.neuron(place.shelf, "m", 1, index, sae) for index in range(D_MLP)]
    return [replace(one, sae_run_id="", evidence=replace(one.evidence, run_id="")) for one in of]


def test_neurons_and_sae_may_come_in_one_job_or_one_after_the_other(idle: Place) -> None:
    spec = loaded(idle)
    assert go(idle, spec, "both")["split"] == ["1-mlp by 1-a"]
    both = found(idle)
    assert all(one.split.groups for one in both)
    alone = go(idle, spec.model_copy(update={"saes": ["1-b"]}), "alone")
    assert alone["split"] == ["1-mlp by 1-b"]
    assert found(idle, "1-b") != both == found(idle)
    write.delete_sae(idle.shelf, "m", "1-mlp")
    with pytest.raises(NotFound, match="`saescope precompute m 1-mlp 1-a`"):
        neurons.neuron(idle.shelf, "m", 1, 0)
    anew = go(idle, spec.model_copy(update={"saes": ["1-mlp"]}), "neurons")
    assert anew["split"] == ["1-mlp by 1-a", "1-mlp by 1-b"]
    assert found(idle) == both


def test_evidence_of_another_text_is_not_split(idle: Place) -> None:
    spec = loaded(idle)
    go(idle, spec.model_copy(update={"saes": ["1-mlp"]}), "neurons")
    texts = idle.folder / "texts.txt"
    texts.write_text(texts.read_text() + "\nAnd there is more.")
    result = go(idle, spec.model_copy(update={"saes": ["1-a"]}), "sae")
    assert result["split"] == []
    assert "not from the text of this job" in result["not_split"]["1-mlp by 1-a"]
    with pytest.raises(NotFound, match="precompute both on one corpus"):
        neurons.neurons(idle.shelf, "m")


def test_of_two_jobs_at_once_the_last_to_end_splits(
    idle: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = loaded(idle)
    go(idle, spec, "both")
    both = found(idle)
    for sae in ("1-mlp", "1-a"):
        write.delete_sae(idle.shelf, "m", sae)
    go(idle, LoadSpec(model="m", sae="1-a", path=str(idle.folder / "1-a")))
    finish_runs = precompute.finish_runs
    results: list[dict[str, Any]] = []

    def other_first(*given: Any) -> None:
        """The other job begins and ends just before this one is served."""
        monkeypatch.setattr(precompute, "finish_runs", finish_runs)
        results.append(go(idle, spec.model_copy(update={"saes": ["1-a"]}), "other"))
        finish_runs(*given)

    monkeypatch.setattr(precompute, "finish_runs", other_first)
    results.append(go(idle, spec.model_copy(update={"saes": ["1-mlp"]}), "this"))
    assert [one["split"] for one in results] == [[], ["1-mlp by 1-a"]]
    assert found(idle) == both


def test_a_broken_sae_beside_the_neurons_fails_no_job(idle: Place) -> None:
    spec = loaded(idle)
    go(idle, spec.model_copy(update={"saes": ["1-a", "1-b"]}), "saes")
    weights = Path(read.sae(idle.shelf, "m", "1-a").path) / "sae_weights.safetensors"
    weights.write_bytes(b"no weights")
    result = go(idle, spec.model_copy(update={"saes": ["1-mlp"]}), "neurons")
    assert result["split"] == ["1-mlp by 1-b"]
    assert list(result["not_split"]) == ["1-mlp by 1-a"]
    assert found(idle, "1-b")


def test_a_job_that_was_stopped_goes_on_from_the_blocks_that_are_there(
    idle: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_NEURONS", 10)
    spec = loaded(idle)
    go(idle, spec, "undisturbed")
    undisturbed = found(idle)
    for sae in ("1-mlp", "1-a"):
        write.delete_sae(idle.shelf, "m", sae)
    go(idle, LoadSpec(model="m", sae="1-a", path=str(idle.folder / "1-a")))
    reported: list[float] = []

    def stop(phase: str, done: float, *_: Any) -> None:
        if phase == "split" and done > 25:
            raise Cancelled

    def note(phase: str, done: float, *_: Any) -> None:
        if phase == "split":
            reported.append(done)

    with pytest.raises(Cancelled):
        go(idle, spec, "job", report=stop)
    with pytest.raises(NotFound):
        neurons.neuron(idle.shelf, "m", 1, 0)
    go(idle, spec, "job", report=note)
    assert reported[0] > 20 and reported[-1] == D_MLP
    assert found(idle) == undisturbed


def test_what_is_served_and_not_split_is_split_by_the_next_job(idle: Place) -> None:
    spec = loaded(idle)
    first = go(idle, spec, "first")
    before = found(idle)
    with idle.shelf.write() as connection:
        connection.execute(delete(neuron_splits))
        connection.execute(delete(splits))
    phases: set[str] = set()
    again = go(idle, spec, "again", report=lambda phase, *_: phases.add(phase))
    assert again == first | {"unchanged": ["1-mlp", "1-a"]}
    assert "split" in phases and not {"tokens", "features"} & phases
    assert found(idle) == before
    phases.clear()
    go(idle, spec, "once more", report=lambda phase, *_: phases.add(phase))
    assert "split" not in phases
    with idle.shelf.read() as connection:
        count = select(func.count()).select_from(neuron_splits)
        assert connection.execute(count).scalar_one() == D_MLP
