"""Cosines with what features write and read, against SAELens' own weights; which SAEs a search
looks into."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.contract.search import SearchRequest, Side
from app.errors import Invalid, NotFound
from app.store import write
from app.store.engine import Shelf
from tests.conftest import migrated
from tests.live.process import put_evidence, register, sae_record
from tests.live.world import KINDS, SITES, World
from tests.store import builders
from tests.worker.tiny import D_MLP, D_MODEL, save_sae
from worker.live.library import Library
from worker.live.search.sources import Kept, Sources
from worker.live.search.vector import blocks, cosines, unit
from worker.saes import Dictionary, load_sae

SIDES: tuple[Side, ...] = ("decoder", "encoder")
VECTOR = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(4)).tolist()


def compared(dictionary: Dictionary, side: Side, vector: list[float]) -> np.ndarray:
    """All cosines, block by block."""
    direction = unit(vector)
    parts = [cosines(dictionary, side, direction, b) for b in blocks(dictionary, len(direction))]
    return np.concatenate(parts)


@pytest.mark.parametrize("elements", [1, 7 * D_MODEL, 2**22])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("sae", [*(f"1-{kind}" for kind in KINDS), "1-transcoder"])
def test_cosines_are_those_of_sae_lens_weights(
    world: World, sae: str, side: Side, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.live.search.vector.BLOCK_ELEMENTS", elements)
    own = world.sae_lens(sae)
    rows = (own.W_dec if side == "decoder" else own.W_enc.T).detach()
    found = compared(world.dictionary(sae), side, VECTOR)
    right = torch.nn.functional.cosine_similarity(rows, torch.tensor(VECTOR)[None])
    assert np.allclose(found, right.numpy(), rtol=0, atol=1e-6)
    for feature in (0, 41, 95):
        own_row = compared(world.dictionary(sae), side, (5 * rows[feature]).tolist())
        assert own_row.argmax() == feature
        assert own_row[feature] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_neurons_are_axes(world: World, side: Side) -> None:
    vector = [0.0] * D_MLP
    vector[7], vector[30] = 3.0, -4.0
    found = compared(world.dictionary("1-mlp"), side, vector)
    assert found[[7, 30]].tolist() == pytest.approx([0.6, -0.8])
    assert np.count_nonzero(found) == 2


def test_a_feature_without_weights_has_no_direction(tmp_path: Path) -> None:
    dictionary = load_sae("1-x", save_sae(tmp_path / "sae", "standard"))
    assert dictionary.decoder.rows is not None and dictionary.encoder.weight is not None
    dictionary.decoder.rows[3], dictionary.encoder.weight[:, 3] = 0, 0
    for side in SIDES:
        assert compared(dictionary, side, VECTOR)[3] == 0


def test_any_size_of_finite_numbers_has_a_direction() -> None:
    for size in (1e-320, 1e-30, 1.0, 1e300):
        assert unit([3 * size, 0.0, -4 * size]).tolist() == pytest.approx([0.6, 0, -0.8], rel=1e-3)
    for vector in ([0.0, 0.0], [], [1.0, float("nan")], [float("-inf"), 1.0]):
        with pytest.raises(Invalid, match="has no direction"):
            unit(vector)


@pytest.fixture(scope="module")
def shelf(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Evidence for SAEs of two widths, a transcoder from one to the other, matching pursuit and a
    layer of neurons; none for all others."""
    folder = tmp_path_factory.mktemp("searched")
    saes = {
        "0-turns": save_sae(folder / "turns", "transcoder", hook_name=SITES["pre"],
                            metadata={"hook_name_out": "blocks.1.mlp.hook_post"},
                            d_out=D_MLP, apply_b_dec_to_input=False),
        "0-pursuit": save_sae(folder / "pursuit", "matching_pursuit"),
    }  # fmt: skip
    here = World(world.id, world.folder, {**world.saes, **saes})
    with migrated(f"sqlite:///{folder / 'shelf.db'}") as opened:
        register(opened, here)
        write.put_sae(opened, sae_record(here, "1-mlp"))
        for sae in ("1-post", "1-act", "0-turns", "0-pursuit", "1-mlp"):
            put_evidence(opened, here, sae)
        yield opened


def chosen(shelf: Shelf, world: World, **request: Any) -> list[str]:
    library = Library(shelf, torch.device("cpu"), torch.float32)
    body = SearchRequest.model_validate({"model": world.id, **request})
    return [*Sources(library).choose(body)]


def test_by_default_all_saes_with_evidence_are_searched_and_no_neurons(
    shelf: Shelf, world: World
) -> None:
    assert chosen(shelf, world, text="x") == ["0-pursuit", "0-turns", "1-act", "1-post"]
    named = ["1-mlp", "1-act", "1-mlp"]
    assert chosen(shelf, world, text="x", saes=named) == ["1-mlp", "1-act"]


@pytest.mark.parametrize(("width", "side", "saes"), [
    (D_MODEL, "decoder", ["0-pursuit", "1-post"]),
    (D_MODEL, "encoder", ["0-turns", "1-post"]),
    (D_MLP, "decoder", ["0-turns", "1-act"]),
    (D_MLP, "encoder", ["1-act"]),
])  # fmt: skip
def test_a_vector_is_compared_where_it_fits(
    shelf: Shelf, world: World, width: int, side: Side, saes: list[str]
) -> None:
    vector = [1.0] * width
    assert chosen(shelf, world, vector=vector, side=side) == saes
    for sae in saes:
        assert chosen(shelf, world, vector=vector, side=side, saes=[sae]) == [sae]
    neurons = {"vector": [1.0] * D_MLP, "side": side, "saes": ["1-mlp"]}
    assert chosen(shelf, world, **neurons) == ["1-mlp"]


@pytest.mark.parametrize(("request_", "problem", "sentence"), [
    ({"vector": [1.0]}, Invalid, "vector has 1 numbers; on the decoder side the widths are 32"),
    ({"vector": [1.0]}, Invalid, "32 of 0-pursuit, 48 of 0-turns, 48 of 1-act, 32 of 1-post."),
    ({"vector": [1.0] * 32, "saes": ["1-post", "1-mlp"]}, Invalid, "32 of 1-post, 48 of 1-mlp."),
    ({"vector": VECTOR, "side": "encoder", "saes": ["0-pursuit"]}, Invalid, "matching pursuit"),
    ({"vector": [0.0] * 32}, Invalid, "zero"),
    ({"text": "x", "saes": ["1-topk"]}, NotFound, "submit a precompute job"),
    ({"text": "x", "saes": ["2-mlp"]}, NotFound, "'2-mlp' .* submit a precompute job"),
    ({"text": "x", "saes": ["7-mlp"]}, NotFound, "has 3 layers"),
    ({"text": "x", "saes": ["9-no"]}, NotFound, "has no SAE '9-no'"),
    ({"text": "x", "model": "gpt5"}, NotFound, "no model 'gpt5'"),
])  # fmt: skip
def test_what_cannot_be_searched(
    shelf: Shelf,
    world: World,
    request_: dict[str, Any],
    problem: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(problem, match=sentence):
        chosen(shelf, world, **request_)


def test_without_any_evidence_a_job_is_asked_for(sqlite_shelf: Shelf, world: World) -> None:
    register(sqlite_shelf, world)
    with pytest.raises(NotFound, match=f"No SAE of {world.id} has evidence yet; submit a prec"):
        chosen(sqlite_shelf, world, text="x")


def test_more_saes_than_one_search_may_have_are_to_be_named(sqlite_shelf: Shelf) -> None:
    tokens = builders.fill(sqlite_shelf)
    for i in range(32):
        record = replace(builders.sae_record(f"1-{i}"), d_sae=8)
        write.put_sae(sqlite_shelf, record)
        write.begin_run(sqlite_shelf, "tiny", record.id, tokens.record.id, {}, record.id)
        write.put_features(sqlite_shelf, record.id, builders.batch(tokens, 0, 8))
        write.finish_runs(sqlite_shelf, {record.id: {}})
    sources = Sources(Library(sqlite_shelf, torch.device("cpu"), torch.float32))
    with pytest.raises(Invalid, match="33 SAEs that could be searched; name at most 32"):
        sources.choose(SearchRequest(model="tiny", text="x"))


def test_what_is_kept_of_runs_is_bounded_and_of_the_run_that_is_served(
    sqlite_shelf: Shelf,
) -> None:
    tokens = builders.fill(sqlite_shelf)
    record = replace(builders.sae_record(), run_id="run-1")
    kept, small = Kept(sqlite_shelf), Kept(sqlite_shelf, most_bytes=64 * 16 - 1)
    first = kept.get(record)
    assert kept.get(record) is first
    assert small.get(record) is not small.get(record)
    builders.put_run(sqlite_shelf, tokens, "run-2", seed=1)
    assert kept.get(record) is first
    second = kept.get(replace(record, run_id="run-2"))
    assert (second.run_id, kept.get(replace(record, run_id="run-2"))) == ("run-2", second)
    assert second.density.tolist() != first.density.tolist()
