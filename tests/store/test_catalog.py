"""The catalog on the shelf: replaced as a whole, searched by words, read in pages."""

from dataclasses import replace

import pytest

from app.errors import BadRequest, Unavailable
from app.store import catalog
from app.store.catalog import CatalogEntry
from app.store.engine import Shelf
from tests.store.builders import catalog_entry

ENTRY = catalog_entry()
ENTRIES = [
    ENTRY,
    replace(ENTRY, sae_id="blocks.1.hook_resid_pre", l0=None, explained_variance=-7.5),
    replace(ENTRY, release="gemma-100%_res", sae_id="layer_1/width_16k", model="gemma-2-2b"),
]


def found(shelf: Shelf, q: str | None = None, model: str | None = None) -> list[CatalogEntry]:
    return catalog.entries(shelf, q, model).items


def test_an_empty_shelf_says_so(shelf: Shelf) -> None:
    assert catalog.source(shelf) is None
    with pytest.raises(Unavailable, match="not on the shelf yet"):
        catalog.entries(shelf)


def test_words_and_models_find_entries(shelf: Shelf) -> None:
    catalog.replace(shelf, "one", ENTRIES)
    assert catalog.source(shelf) == "one"
    assert found(shelf) == ENTRIES
    assert found(shelf, "GPT2 blocks.1") == [ENTRIES[1]]
    assert found(shelf, " sae   resid-PRE ") == ENTRIES[:2]
    assert found(shelf, "width_16k") == found(shelf, model="gemma-2-2b") == [ENTRIES[2]]
    assert found(shelf, "100%") == found(shelf, "wid", "gemma-2-2b") == [ENTRIES[2]]
    assert (
        found(shelf, "re-jb")
        == found(shelf, "16")
        == found(shelf, "pre gemma")
        == found(shelf, model="gemma")
        == []
    )
    assert found(shelf, "ré'\"*") == []
    assert found(shelf, " % ") == ENTRIES


def test_numbers_are_found_whole(shelf: Shelf) -> None:
    layers = [replace(ENTRY, sae_id=f"blocks.{layer}.hook_resid_pre") for layer in (1, 10, 11)]
    catalog.replace(shelf, "one", layers)
    assert found(shelf, "blocks.1") == found(shelf, "bl 1") == layers[:1]


def test_pages_follow_each_other(shelf: Shelf) -> None:
    catalog.replace(shelf, "one", ENTRIES)
    first = catalog.entries(shelf, "res", limit=2)
    assert first.next_cursor is not None
    second = catalog.entries(shelf, "res", limit=2, cursor=first.next_cursor)
    assert first.items + second.items == ENTRIES
    assert second.next_cursor is None
    with pytest.raises(BadRequest):
        catalog.entries(shelf, "jb", cursor=first.next_cursor)
    catalog.replace(shelf, "two", ENTRIES)
    with pytest.raises(BadRequest):
        catalog.entries(shelf, "res", cursor=first.next_cursor)


def test_it_is_replaced_as_a_whole(shelf: Shelf) -> None:
    catalog.replace(shelf, "one", ENTRIES)
    catalog.replace(shelf, "one", ENTRIES[:1])
    assert found(shelf) == ENTRIES
    catalog.replace(shelf, "two", ENTRIES[:1])
    assert (found(shelf), catalog.source(shelf)) == (ENTRIES[:1], "two")
