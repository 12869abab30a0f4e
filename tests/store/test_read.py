"""Lists and lookups against the plainest computation over the same numbers."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from app.errors import BadRequest, Gone, Invalid, NotFound
from app.store import lookup, read, write
from app.store.engine import Shelf
from app.store.lookup import Lookups
from app.store.read import Ranges
from app.store.records import Feature, FeatureSummary, Vocabulary
from tests.conftest import empty_database, migrated
from tests.store import builders

D_SAE = 150


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A shelf with one SAE of 150 features, three of them dead. Tests only read it."""
    with migrated(empty_database(request, tmp_path_factory.mktemp("filled"))) as shelf:
        builders.fill(shelf, d_sae=D_SAE)
        write.put_sae(shelf, builders.sae_record("1-res"))
        yield shelf


def expected() -> list[FeatureSummary]:
    """The same features, straight from the batches."""
    tokens, found = builders.corpus(), []
    for first in range(0, D_SAE, 32):
        batch = builders.batch(tokens, first, min(32, D_SAE - first))
        columns = (batch.labels, batch.density.tolist(), batch.max_activation.tolist())
        found += [
            FeatureSummary(first + i, *row) for i, row in enumerate(zip(*columns, strict=True))
        ]
    return found


def listed(shelf: Shelf, limit: int = 100, **query) -> list[FeatureSummary]:
    """All pages of a list."""
    found, cursor = [], None
    while True:
        page = read.features(shelf, "tiny", "0-res", limit=limit, cursor=cursor, **query)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == limit


@pytest.mark.parametrize("limit", [7, 75, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["index", "density", "max_activation"])
def test_every_sort_pages_through_all_features_once(
    filled: Shelf, sort: read.Sort, order: read.Order, limit: int
) -> None:
    ordered = sorted(expected(), key=lambda f: (getattr(f, sort), f.index))
    found = listed(filled, limit, sort=sort, order=order)
    assert found == (ordered if order == "asc" else ordered[::-1])


@pytest.mark.parametrize("sort", ["index", "density", "max_activation"])
@pytest.mark.parametrize("limit", [10, 100])
def test_bounds_include_their_ends(filled: Shelf, sort: read.Sort, limit: int) -> None:
    features = expected()
    densities = sorted(f.density for f in features)
    maxima = sorted(f.max_activation for f in features)
    for low, high in ((densities[20], densities[120]), (None, densities[50]), (0.0, 0.0)):
        for least in (None, maxima[60]):
            kept = [
                f
                for f in features
                if (low is None or f.density >= low)
                and f.density <= high
                and (least is None or f.max_activation >= least)
            ]
            ranges = Ranges(density_min=low, density_max=high, max_activation_min=least)
            kept.sort(key=lambda f: (getattr(f, sort), f.index))
            assert listed(filled, limit, sort=sort, ranges=ranges) == kept


@pytest.mark.parametrize("few", [0, 2_000])
@pytest.mark.parametrize("query", ["tok7", "PROMOTES tok7", "fires-on: tok9!", "nothing", "zz"])
def test_words_are_found_by_their_beginnings(
    filled: Shelf, query: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.search.FEW", few)
    beginnings = query.lower().replace("-", " ").replace(":", "").replace("!", "").split()
    words = searchable()
    kept = {
        index
        for index, own in words.items()
        if all(any(word.startswith(beginning) for word in own) for beginning in beginnings)
    }
    found = listed(filled, 20, q=query, sort="density", order="desc")
    assert {f.index for f in found} == kept
    assert len(found) == len(kept)
    assert [f.density for f in found] == sorted((f.density for f in found), reverse=True)


def searchable() -> dict[int, set[str]]:
    """By feature, the words it is found by: label, ten promoted tokens, five peak tokens."""
    tokens, display = builders.corpus(), builders.vocabulary().display
    found = {}
    for first in range(0, D_SAE, 32):
        batch = builders.batch(tokens, first, min(32, D_SAE - first))
        examples = batch.examples
        for row, label in enumerate(batch.labels):
            own = [i for i in range(len(examples.feature)) if examples.feature[i] == row][:5]
            starts = [tokens.offsets[examples.sequence[i]] + examples.offset[i] for i in own]
            peaks = [tokens.flat[s + examples.peak[i]] for s, i in zip(starts, own, strict=True)]
            ids = itertools.chain(batch.top_logits[0][row][:10], peaks)
            spelled = [label.replace(",", ""), *(display[id] for id in ids)]
            found[first + row] = {word.strip("<>") for word in " ".join(spelled).split()}
    return found


def test_words_of_every_script_are_found(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    batch = builders.batch(tokens, 0, 64)
    batch.labels[3] = "Ångström naïve 東京 über_alles don't 4e5 'quoted' \\ : * & |"
    batch.labels[4] = "fires on \0"
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    write.put_features(shelf, "run-2", batch)
    write.finish_runs(shelf, {"run-2": {}})
    assert lookup.feature(shelf, "tiny", "0-res", 4).label == "fires on ␀"
    for query in ("ÅNGSTRÖM", "naïve", "東京", "alles", "don", "4e5", "quot'ed", "東"):
        found = [f.index for f in listed(shelf, q=query)]
        assert (found == [3]) is (query != "quot'ed"), query


@pytest.mark.parametrize("query", ["", "!?", "' \" * _"])
def test_a_query_without_a_word_is_refused(filled: Shelf, query: str) -> None:
    with pytest.raises(Invalid, match="at least one word"):
        read.features(filled, "tiny", "0-res", q=query)


@pytest.mark.parametrize("limit", [0, 101, -1])
def test_page_sizes_are_checked(filled: Shelf, limit: int) -> None:
    for list_one in (
        lambda: read.features(filled, "tiny", "0-res", limit=limit),
        lambda: read.models(filled, limit=limit),
        lambda: read.saes(filled, "tiny", limit=limit),
    ):
        with pytest.raises(Invalid, match="1 to 100"):
            list_one()


def test_a_cursor_belongs_to_its_list_and_run(shelf: Shelf) -> None:
    builders.fill(shelf)
    cursor = read.features(shelf, "tiny", "0-res", sort="density", limit=5).next_cursor
    for other in ({"sort": "max_activation"}, {"sort": "density", "q": "tok"}):
        with pytest.raises(BadRequest, match="start without it"):
            read.features(shelf, "tiny", "0-res", cursor=cursor, **other)
    for made_up in ("", "x", "!!", "W10", cursor[:-3], "bnVsbA"):
        with pytest.raises(BadRequest, match="start without it"):
            read.features(shelf, "tiny", "0-res", sort="density", cursor=made_up)
    builders.put_run(shelf, builders.corpus(), "run-2", seed=1)
    with pytest.raises(Gone, match="start again"):
        read.features(shelf, "tiny", "0-res", sort="density", limit=5, cursor=cursor)


def test_models_and_saes_are_listed_in_pages(shelf: Shelf) -> None:
    names = sorted(["alpha", "b.2", "gamma", "delta_1", "z9"])
    for name in names:
        write.put_model(shelf, builders.model_record(name), builders.vocabulary(3))
        write.put_sae(shelf, builders.sae_record(name, model_id="alpha"))
    for pages in (read.models, lambda *a: read.saes(shelf, "alpha", *a[1:])):
        first = pages(shelf, 2, None)
        second = pages(shelf, 2, first.next_cursor)
        last = pages(shelf, 2, second.next_cursor)
        assert [r.id for r in (*first.items, *second.items, *last.items)] == names
        assert last.next_cursor is None
    assert read.saes(shelf, "gamma").items == []
    with pytest.raises(NotFound, match="no model 'omega'"):
        read.saes(shelf, "omega")


def test_what_is_missing_is_named(filled: Shelf) -> None:
    for index in (-1, D_SAE, 2**31, 2**32, 2**63, 2**70):
        with pytest.raises(NotFound, match="features 0 to 149"):
            lookup.feature(filled, "tiny", "0-res", index)
    with pytest.raises(NotFound, match="no evidence yet"):
        lookup.feature(filled, "tiny", "1-res", 0)
    with pytest.raises(NotFound, match="no evidence yet"):
        read.features(filled, "tiny", "1-res")
    with pytest.raises(NotFound, match="has no SAE 'x'"):
        lookup.feature(filled, "tiny", "x", 0)
    with pytest.raises(NotFound, match="no model 'x'"):
        lookup.feature(filled, "x", "0-res", 0)


def test_a_dead_feature_is_served_empty(filled: Shelf) -> None:
    dead = lookup.feature(filled, "tiny", "0-res", 49)
    assert (dead.density, dead.max_activation, dead.examples) == (0, 0, [])


def test_stored_maxima_are_exact(filled: Shelf) -> None:
    by_index = {f.index: f.max_activation for f in expected()}
    wanted = [0, 149, 7, 7]
    found = read.max_activations(filled, "tiny", "0-res", wanted)
    assert found == {index: by_index[index] for index in wanted}
    with pytest.raises(NotFound, match="no feature 150"):
        read.max_activations(filled, "tiny", "0-res", [0, 150])


async def asked(shelf: Shelf, index: int) -> tuple[Feature, Vocabulary]:
    """A feature as the API's event loop gets it."""
    lookups = Lookups(shelf)
    try:
        return await lookups("tiny", "0-res", index)
    finally:
        await lookups.close()


def test_a_feature_comes_back_as_it_was_put(filled: Shelf) -> None:
    batch = builders.batch(builders.corpus(), 32, 32)
    found, names = asyncio.run(asked(filled, 32 + 4))
    assert found == lookup.feature(filled, "tiny", "0-res", 36)
    assert names == read.vocabulary(filled, "tiny")
    assert (found.index, found.run_id, found.label) == (36, "run-1", batch.labels[4])
    assert found.mean_activation == batch.mean_activation[4]
    assert found.histogram_counts == tuple(batch.histogram_counts[4].tolist())
    assert found.examples[0].max == max(found.examples[0].values)
    assert [e.band for e in found.examples] == ["top"] * 20 + [
        band for band in ("q5", "q4", "q3", "q2", "q1") for _ in range(5)
    ]
