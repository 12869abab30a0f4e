"""Lists under callers that come at the same time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import Conflict, Forbidden
from app.store import lists, vectors
from app.store.engine import Shelf


def test_adds_at_once_lose_nothing_and_do_not_overfill(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST_ITEMS", 50)
    kept = lists.new(shelf, "me", "mine", "", None, {})

    def add(first: int) -> int:
        done = 0
        for index in range(first, first + 20):
            try:
                done += len(lists.add(shelf, "me", kept.id, {("m", "0-s", index): ""}))
            except Conflict:
                break
        return done

    with ThreadPoolExecutor(4) as pool:
        added = sum(pool.map(add, range(0, 80, 20)))
    items = lists.get(shelf, kept.id)[1]
    assert added == len(items) == 50
    assert len({item.name for item in items}) == 50


def test_an_add_that_is_refused_adds_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST_ITEMS", 2)
    kept = lists.new(shelf, "me", "mine", "", None, {("m", "0-s", 0): ""})
    more = {("m", "0-s", index): "" for index in (0, 1, 2)}
    with pytest.raises(Conflict, match="nothing was added"):
        lists.add(shelf, "me", kept.id, more)
    found, items = lists.get(shelf, kept.id)
    assert [item.feature for item in items] == [0] and found == kept
    with pytest.raises(Forbidden):
        lists.delete_list(shelf, "you", kept.id)


def test_only_sources_of_vectors_are_taken_for_such() -> None:
    for name in ("0-neuronpedia-resid-pre", "12-neuronpedia-resid-post"):
        assert vectors.is_source(name)
    for name in ("01-neuronpedia-resid-pre", "neuronpedia-resid-pre", "1-neuronpedia-resid-mid",
                 "1-neuronpedia-resid-pre-x", "1-res"):  # fmt: skip
        assert not vectors.is_source(name)
