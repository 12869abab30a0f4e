"""`verify`: agrees with what precompute stored, finds what was changed behind its back."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from app.contract.jobs import LoadSpec, PrecomputeSpec, VerifySpec
from app.errors import Conflict, NotFound
from app.store import codec, read
from app.store.tables import ROW_BITS, features
from tests.jobs.place import Place
from tests.jobs.test_precompute import go, loaded
from tests.worker.tiny import save_sae

D_SAE = 96


def precomputed(place: Place, **changed: object) -> PrecomputeSpec:
    spec = loaded(place, True, D_SAE).model_copy(update=changed)
    go(place, spec)
    return spec


def test_what_was_stored_agrees(idle: Place) -> None:
    precomputed(idle, saes=["1-a", "1-mlp"])
    for sae in ("1-a", "1-mlp"):
        result = go(idle, VerifySpec(model="m", sae=sae, examples=40), "verify")
        assert result["agrees"] is True and result["tolerance"] == 1e-5
        assert result["examples"] == 40 and result["values"] > 200
        assert 0 <= result["largest_relative"] <= 1e-5
        assert result["run"] == read.sae(idle.shelf, "m", sae).run_id
        assert go(idle, VerifySpec(model="m", sae=sae, examples=40), "verify") == result


def test_topk_agrees_too(idle: Place) -> None:
    precomputed(idle)
    save_sae(idle.folder / "topk", "topk", d_sae=64, k=4)
    go(idle, LoadSpec(model="m", sae="1-topk", path=str(idle.folder / "topk")))
    go(idle, loaded(idle, True, D_SAE).model_copy(update={"saes": ["1-topk"]}), "topk")
    result = go(idle, VerifySpec(model="m", sae="1-topk", examples=100), "verify")
    assert result["agrees"] and 64 < result["examples"] <= 100


def test_a_changed_value_is_found_and_named(idle: Place) -> None:
    precomputed(idle)
    spec = VerifySpec(model="m", sae="1-a", examples=30)
    index = go(idle, spec, "verify")["worst"]["feature"]
    tamper(idle, index)
    result = go(idle, spec, "verify")
    assert result["agrees"] is False
    assert result["worst"]["feature"] == index
    assert result["worst"]["stored"] == pytest.approx(1.5 * result["worst"]["recomputed"], rel=1e-4)


def tamper(place: Place, index: int) -> None:
    """Make all values of a feature half as large again."""
    with place.shelf.write() as connection:
        query = select(features.c.id, features.c.evidence)
        row = connection.execute(query.where(features.c.id % 2**ROW_BITS == index)).one()
        n_values = int((codec.unpack(row.evidence).values > 0).sum())
        at = len(row.evidence) - 5 * n_values
        values = np.frombuffer(row.evidence, "<f4", n_values, at) * np.float32(1.5)
        evidence = row.evidence[:at] + values.tobytes() + row.evidence[at + values.nbytes :]
        connection.execute(
            update(features).where(features.c.id == row.id).values(evidence=evidence)
        )


def test_in_bfloat16_the_difference_is_told_and_not_judged(idle: Place) -> None:
    spec = loaded(idle, True, D_SAE)
    go(idle, spec, dtype="bfloat16")
    result = go(idle, VerifySpec(model="m", sae="1-a", examples=20), "verify")
    assert result["agrees"] is None and result["tolerance"] is None
    assert result["largest_relative"] < 0.1


def test_without_evidence_there_is_nothing_to_verify(idle: Place) -> None:
    loaded(idle, True, D_SAE)
    with pytest.raises(Conflict, match="saescope precompute m 1-a"):
        go(idle, VerifySpec(model="m", sae="1-a"))
    with pytest.raises(NotFound, match="1-nobody"):
        go(idle, VerifySpec(model="m", sae="1-nobody"))


def test_other_files_than_the_evidence_is_of_are_refused(idle: Place) -> None:
    precomputed(idle)
    stored = Path(read.sae(idle.shelf, "m", "1-a").path)
    other = save_sae(idle.folder / "other", "standard", d_sae=D_SAE, seed=9)
    shutil.rmtree(stored)
    shutil.copytree(other, stored)
    with pytest.raises(Conflict, match="SAE 1-a have changed since its evidence was computed"):
        go(idle, VerifySpec(model="m", sae="1-a"))
