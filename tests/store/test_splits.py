"""Splits of neurons: seen with their runs, never before, found in order, collected with them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Column, event, func, select

from app.errors import Conflict, Gone, NotFound
from app.store import garbage, neurons, splits, write
from app.store.engine import Shelf
from app.store.tables import neuron_splits
from app.store.tables import splits as splits_table
from tests.store import builders, split_builders
from tests.store.split_builders import HOOK, NEURONS, add_sources, begin, put_split, split_of


@pytest.fixture
def tokens(shelf: Shelf) -> builders.Tokens:
    """Neurons and both SAEs with evidence, split by `0-a`."""
    return split_builders.fill(shelf)


def test_a_neuron_comes_back_as_it_was_put(shelf: Shelf, tokens: builders.Tokens) -> None:
    found = neurons.neuron(shelf, "tiny", 0, 5)
    assert found.split == split_of(5)
    assert (found.layer, found.sae, found.sae_run_id) == (0, "0-a", "0-a.1")
    assert (found.evidence.run_id, found.evidence.index) == ("0-mlp.1", 5)
    assert found.labels.keys() == {5, 61}
    assert found.labels[61] == "fires on tok61, promotes tok61"
    assert neurons.neuron(shelf, "tiny", 0, 3).split.unexplained_variance is None


def test_nothing_is_seen_before_both_runs_are_served(shelf: Shelf) -> None:
    tokens = add_sources(shelf)
    begin(shelf, tokens, "0-mlp", "n")
    begin(shelf, tokens, "0-a", "a")
    put_split(shelf, "n", "a")
    for run in ("n", "a"):
        with pytest.raises(NotFound, match="precompute both on one corpus"):
            neurons.neuron(shelf, "tiny", 0, 5)
        write.finish_runs(shelf, {run: {}})
    assert neurons.neuron(shelf, "tiny", 0, 5).split == split_of(5)


def test_nothing_is_seen_before_it_is_complete(shelf: Shelf, tokens: builders.Tokens) -> None:
    number = splits.begin_split(shelf, "0-mlp.1", "0-b.1")
    splits.put_neurons(shelf, number, [split_of(n) for n in range(NEURONS)])
    assert not splits.is_complete(shelf, number)
    with pytest.raises(NotFound, match="not split by '0-b' yet"):
        neurons.neurons(shelf, "tiny", 0, "0-b")
    splits.finish_split(shelf, number)
    assert splits.is_complete(shelf, number)
    assert neurons.neurons(shelf, "tiny", 0, "0-b").page.items


def test_a_split_goes_on_where_it_was_left(shelf: Shelf, tokens: builders.Tokens) -> None:
    number = splits.begin_split(shelf, "0-mlp.1", "0-b.1")
    splits.put_neurons(shelf, number, [split_of(n) for n in range(40)])
    assert splits.begin_split(shelf, "0-mlp.1", "0-b.1") == number
    assert [splits.n_stored(shelf, number, *block) for block in ((0, 40), (40, 64))] == [40, 0]
    splits.put_neurons(shelf, number, [split_of(n, seed=1) for n in range(NEURONS)])
    splits.finish_split(shelf, number)
    assert neurons.neuron(shelf, "tiny", 0, 5, "0-b").split == split_of(5, seed=1)


def test_the_sae_that_leaves_the_least_unexplained_is_the_one(
    shelf: Shelf, tokens: builders.Tokens
) -> None:
    number = splits.begin_split(shelf, "0-mlp.1", "0-b.1")
    better = [replace(split_of(n), unexplained_variance=0.001) for n in range(NEURONS)]
    splits.put_neurons(shelf, number, better)
    splits.finish_split(shelf, number)
    assert neurons.neuron(shelf, "tiny", 0, 5).sae == "0-b"
    assert neurons.neurons(shelf, "tiny").sae == "0-b"
    assert neurons.neuron(shelf, "tiny", 0, 5, "0-a").sae == "0-a"


def test_new_evidence_takes_its_split_along(shelf: Shelf, tokens: builders.Tokens) -> None:
    begin(shelf, tokens, "0-a", "0-a.2")
    put_split(shelf, "0-mlp.1", "0-a.2", seed=1)
    assert neurons.neuron(shelf, "tiny", 0, 5).split == split_of(5)
    page = neurons.neurons(shelf, "tiny", limit=5).page
    write.finish_runs(shelf, {"0-a.2": {}})
    assert neurons.neuron(shelf, "tiny", 0, 5).split == split_of(5, seed=1)
    with pytest.raises(Gone):
        neurons.neurons(shelf, "tiny", limit=5, cursor=page.next_cursor)
    with pytest.raises(Conflict, match="anew or deleted meanwhile"):
        splits.begin_split(shelf, "0-mlp.1", "0-a.1")


def test_what_is_collected_takes_its_splits_along(
    shelf: Shelf, tokens: builders.Tokens, tmp_path: Path
) -> None:
    put_split(shelf, "0-mlp.1", "0-b.1")
    garbage.collect_garbage(shelf, tmp_path, timedelta(0))
    assert _rows(shelf) == (2, 2 * NEURONS)
    write.delete_sae(shelf, "tiny", "0-b")
    garbage.collect_garbage(shelf, tmp_path, timedelta(0))
    assert _rows(shelf) == (1, NEURONS)
    assert neurons.neuron(shelf, "tiny", 0, 5).split == split_of(5)
    write.delete_sae(shelf, "tiny", "0-mlp")
    garbage.collect_garbage(shelf, tmp_path, timedelta(0))
    assert _rows(shelf) == (0, 0)
    with pytest.raises(Conflict, match="is gone"):
        splits.put_neurons(shelf, 1, [split_of(0)])


def test_a_job_that_writes_what_is_being_collected_is_told(
    shelf: Shelf, tokens: builders.Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts more neurons just when those that were there are deleted."""
    number = put_split(shelf, "0-mlp.1", "0-b.1")
    write.delete_sae(shelf, "tiny", "0-b")
    delete_owned = garbage._delete_owned

    def meanwhile(shelf: Shelf, id: Column[int], owner: int) -> int:
        deleted = delete_owned(shelf, id, owner)
        if id is neuron_splits.c.id:
            splits.put_neurons(shelf, number, [split_of(n) for n in range(NEURONS)])
        return deleted

    monkeypatch.setattr(garbage, "_delete_owned", meanwhile)
    garbage.collect_garbage(shelf, tmp_path, timedelta(0))
    assert _rows(shelf) == (1, NEURONS)
    with pytest.raises(Conflict, match="is gone"):
        splits.put_neurons(shelf, number, [split_of(0)])


def _rows(shelf: Shelf) -> tuple[int, ...]:
    with shelf.read() as connection:
        counts = [select(func.count()).select_from(one) for one in (splits_table, neuron_splits)]
        return tuple(connection.execute(count).scalar_one() for count in counts)


@pytest.mark.parametrize("sort", ["index", "density", "max_activation", "polysemanticity"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_add_up_to_the_list(
    shelf: Shelf, tokens: builders.Tokens, sort: str, order: str
) -> None:
    seen, cursor = [], None
    while True:
        found = neurons.neurons(shelf, "tiny", sort=sort, order=order, limit=7, cursor=cursor)
        seen += found.page.items
        cursor = found.page.next_cursor
        if cursor is None:
            break
    keys = [(getattr(row, sort), row.index) for row in seen]
    assert keys == sorted(keys, reverse=order == "desc")
    assert sorted(row.index for row in seen) == list(range(NEURONS))
    assert all(row.polysemanticity == split_of(row.index).polysemanticity for row in seen)


@pytest.mark.parametrize("sort", ["index", "density", "max_activation", "polysemanticity"])
def test_sqlite_walks_the_index_of_the_sort(sqlite_shelf: Shelf, sort: neurons.NeuronSort) -> None:
    split_builders.fill(sqlite_shelf)
    listed = []
    event.listen(
        sqlite_shelf.reader,
        "before_cursor_execute",
        lambda connection, cursor, sql, parameters, *_: listed.append((sql, parameters)),
    )
    page = neurons.neurons(sqlite_shelf, "tiny", sort=sort, limit=5).page
    neurons.neurons(sqlite_shelf, "tiny", sort=sort, limit=5, cursor=page.next_cursor)
    pages = [one for one in listed if "features.label" in one[0]]
    assert len(pages) == 2
    for sql, parameters in pages:
        with sqlite_shelf.reader.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
        # One walk, a row of the other table for each of its rows, and nothing is sorted.
        walk, found = (step.detail for step in plan)
        assert "SEARCH" in walk and (sort == "index" or sort in walk)
        assert "INTEGER PRIMARY KEY (rowid=?)" in found


def test_evidence_is_read_in_any_range_of_any_run(shelf: Shelf, tokens: builders.Tokens) -> None:
    begin(shelf, tokens, "0-a", "0-a.2")
    found = dict(splits.stored_evidence(shelf, "0-a.2", 10, 30))
    assert list(found) == list(range(10, 30))
    served = dict(splits.stored_evidence(shelf, "0-a.1", 10, 30))
    assert found[12].band == served[12].band
    assert [(one.id, one.corpus) for one in splits.served_at(shelf, "tiny", HOOK)] == [
        (name, tokens.record.id) for name in ("0-a", "0-b", "0-mlp")
    ]
    assert splits.served_at(shelf, "tiny", "blocks.1.mlp.hook_post") == []


@pytest.mark.parametrize(("asked", "told"), [
    ({"layer": 1}, "has no neurons in layer 1; it has layers 0"),
    ({"layer": 0, "sae_id": "none"}, "has no SAE 'none'"),
    ({"layer": 0, "sae_id": "0-res"}, "reads at blocks.0.hook_resid_post, so it does not split"),
    ({"layer": 0, "sae_id": "0-b"}, "`saescope precompute tiny 0-mlp 0-b`"),
    ({"layer": 0, "sae_id": "0-tc"}, "does not split these neurons; name an SAE on blocks.0.mlp"),
    ({"model_id": "none"}, "There is no model 'none'"),
])  # fmt: skip
def test_what_is_not_there_is_told_with_what_to_do(
    shelf: Shelf, tokens: builders.Tokens, asked: dict, told: str
) -> None:
    with pytest.raises(NotFound) as refused:
        neurons.neurons(shelf, **{"model_id": "tiny", **asked})
    assert told in refused.value.detail


def test_without_an_sae_there_training_is_advised(shelf: Shelf) -> None:
    points = {"blocks.0.hook_resid_post": 8}
    write.put_model(shelf, builders.model_record(hook_points=points), builders.vocabulary())
    with pytest.raises(NotFound, match="cannot be read"):
        neurons.neurons(shelf, "tiny")
    write.delete_model(shelf, "tiny")
    write.put_model(shelf, builders.model_record(hook_points={HOOK: 8}), builders.vocabulary())
    with pytest.raises(NotFound) as refused:
        neurons.neuron(shelf, "tiny", 0, 5)
    assert "`saescope train tiny 0-new --hook-name blocks.0.mlp.hook_post`" in refused.value.detail
    assert "`saescope precompute tiny 0-mlp 0-new`" in refused.value.detail
