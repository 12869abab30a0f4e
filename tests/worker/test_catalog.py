"""SAELens' directory as we read it: all of it, with its hook points, and what is unknown as unknown."""

from collections import Counter

import pytest
from sae_lens.loading import pretrained_sae_loaders as theirs
from sae_lens.loading.pretrained_saes_directory import (
    PretrainedSAELookup,
    get_pretrained_saes_directory,
)

from app.store import catalog
from app.store.catalog import CatalogEntry
from app.store.engine import Shelf
from worker.catalog import directory_file, fill, installed, read_directory


@pytest.fixture(scope="module")
def entries() -> list[CatalogEntry]:
    return list(read_directory(directory_file()))


@pytest.fixture(scope="module")
def directory() -> dict[str, PretrainedSAELookup]:
    return get_pretrained_saes_directory()


def test_it_has_what_sae_lens_has(
    entries: list[CatalogEntry], directory: dict[str, PretrainedSAELookup]
) -> None:
    ours = {(entry.release, entry.sae_id): entry for entry in entries}
    names = {(release, sae) for release, one in directory.items() for sae in one.saes_map}
    assert ours.keys() == names and len(ours) == len(entries) > 13_000
    for (release, sae), entry in ours.items():
        lookup = directory[release]
        assert (entry.model, entry.repo) == (lookup.model, lookup.repo_id)
        assert entry.neuronpedia_id == lookup.neuronpedia_id[sae]
        # Theirs is 0 and 1 where nothing is known.
        assert (entry.l0 or 0.0) == lookup.expected_l0[sae]
        variance = entry.explained_variance
        assert (1.0 if variance is None else variance) == lookup.expected_var_explained[sae]
    assert not [entry for entry in entries if entry.l0 == 0 or entry.explained_variance == 1]


_OFFLINE = ("gemma_2", "gemma_2_transcoder", "qwen_scope", "deepseek_r1", "goodfire")
"""Formats for which SAELens can tell the hook point without downloading anything."""


def test_hook_points_are_those_of_sae_lens(
    entries: list[CatalogEntry], directory: dict[str, PretrainedSAELookup]
) -> None:
    checked = Counter[str]()
    for entry in entries:
        if entry.format in _OFFLINE:
            path = directory[entry.release].saes_map[entry.sae_id]
            getter = theirs.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[entry.format]
            expected = getter(entry.repo, path, "cpu", False, None)["hook_name"]
            assert entry.hook_name == expected, entry
            checked[entry.format] += 1
    assert set(checked) == set(_OFFLINE)


def test_few_hook_points_are_unknown(entries: list[CatalogEntry]) -> None:
    """Those whose files alone say where they read."""
    unknown = Counter(entry.format for entry in entries if entry.hook_name is None)
    assert set(unknown) == {"mntss_clt_layer_transcoder"}
    kinds = {entry.hook_name.rpartition("hook")[2] for entry in entries if entry.hook_name}
    assert kinds == {"_resid_pre", "_resid_mid", "_resid_post", "_attn_out", "_mlp_out", "_z",
                     "_in", "_normalized", "_embed"}  # fmt: skip


def test_it_is_read_when_the_shelf_has_another(
    entries: list[CatalogEntry], sqlite_shelf: Shelf
) -> None:
    catalog.replace(sqlite_shelf, installed(), entries[:1])
    fill(sqlite_shelf)
    assert catalog.entries(sqlite_shelf).items == entries[:1]
    catalog.replace(sqlite_shelf, "older", entries[:1])
    fill(sqlite_shelf)
    assert catalog.source(sqlite_shelf) == installed()
    assert catalog.entries(sqlite_shelf, limit=100).items == entries[:100]
    found = catalog.entries(sqlite_shelf, "gpt2-small-res-jb blocks.1", "gpt2-small").items
    assert [entry.l0 for entry in found if entry.release == "gpt2-small-res-jb"] == [10.0]
