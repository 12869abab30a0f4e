"""Registering, runs and ranges: repeatable, refused with a reason, switched whole."""

import dataclasses

import numpy as np
import pytest
from sqlalchemy import func, select

from app.errors import Conflict, NotFound
from app.store import lookup, read, write
from app.store.engine import Shelf
from app.store.records import CorpusRecord
from app.store.tables import corpus_chunks, features, run_ranges, runs
from tests.store import builders


def count(shelf: Shelf, table) -> int:
    """Rows of a table."""
    with shelf.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_same_again_changes_nothing(shelf: Shelf) -> None:
    builders.fill(shelf)
    before = read.model(shelf, "tiny"), read.sae(shelf, "tiny", "0-res")
    write.put_model(shelf, builders.model_record(source="elsewhere"), builders.vocabulary())
    write.put_sae(shelf, builders.sae_record())
    assert (read.model(shelf, "tiny"), read.sae(shelf, "tiny", "0-res")) == before


def test_an_id_in_use_is_refused_to_other_contents(shelf: Shelf) -> None:
    builders.fill(shelf)
    with pytest.raises(Conflict, match="'tiny' is in use"):
        write.put_model(shelf, builders.model_record(fingerprint="e" * 64), builders.vocabulary())
    with pytest.raises(Conflict, match="'0-res' of model 'tiny' is in use"):
        write.put_sae(shelf, builders.sae_record(fingerprint="e" * 64))
    assert read.model(shelf, "tiny").fingerprint == "f" * 64


def test_an_sae_needs_its_model(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="no model 'tiny'"):
        write.put_sae(shelf, builders.sae_record())


def test_records_come_back_as_they_were_put(shelf: Shelf) -> None:
    model = builders.model_record(license="MIT", has_chat_template=True)
    sae = dataclasses.replace(
        builders.sae_record(), steerable=False, steerable_reason="why", provenance={"seed": 3}
    )
    write.put_model(shelf, model, builders.vocabulary())
    write.put_sae(shelf, sae)
    found = read.model(shelf, "tiny"), read.sae(shelf, "tiny", "0-res")
    assert all(record.created_at.utcoffset().total_seconds() == 0 for record in found)
    assert tuple(dataclasses.replace(record, created_at=None) for record in found) == (model, sae)
    assert read.vocabulary(shelf, "tiny") == builders.vocabulary()


def test_an_evaluation_takes_the_place_of_another(shelf: Shelf) -> None:
    builders.fill(shelf)
    fingerprint = read.sae(shelf, "tiny", "0-res").fingerprint
    write.set_evaluation(shelf, "tiny", "0-res", fingerprint, {"l0": 16.0})
    write.set_evaluation(shelf, "tiny", "0-res", fingerprint, {"explained_variance": None})
    with pytest.raises(Conflict):
        write.set_evaluation(shelf, "tiny", "0-res", "another's", {"l0": 1.0})
    assert read.sae(shelf, "tiny", "0-res").evaluation == {"explained_variance": None}


@pytest.mark.parametrize("vocab", [5_000, 100_000])
def test_a_corpus_keeps_every_token(shelf: Shelf, vocab: int) -> None:
    tokens = builders.corpus(n_sequences=50, vocab=vocab)
    write.put_model(shelf, builders.model_record(), builders.vocabulary(vocab))
    write.put_sae(shelf, builders.sae_record())
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "all")
    evidence = builders.batch(tokens, 0, 64)
    write.put_features(shelf, "all", evidence)
    write.finish_runs(shelf, {"all": {}})
    for index in (0, 1, 63):
        for example in lookup.feature(shelf, "tiny", "0-res", index).examples:
            first = tokens.offsets[example.sequence] + example.offset
            expected = tokens.flat[first : first + builders.WINDOW]
            assert example.token_ids == expected.tolist()


def test_a_half_written_corpus_is_completed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = builders.corpus(n_sequences=200)
    monkeypatch.setattr(write, "_CHUNKS_A_TRANSACTION", 3)
    with pytest.raises(IndexError):
        write.put_corpus(shelf, tokens.record, tokens.flat, Breaking(tokens.offsets))
    written = count(shelf, corpus_chunks)
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    assert 0 < written < count(shelf, corpus_chunks)


class Breaking:
    """Offsets that cannot be read to their end, as when the process is stopped there."""

    def __init__(self, offsets: np.ndarray) -> None:
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, part: slice) -> np.ndarray:
        if part.start > 100:
            raise IndexError(part)
        return self.offsets[part]


def test_a_run_is_begun_once(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    arguments = ("tiny", "0-res", tokens.record.id)
    settings = {"k": 1, "layers": (1, 2)}
    first = write.begin_run(shelf, *arguments, settings, "run-2")
    assert write.begin_run(shelf, *arguments, settings, "run-2") == first
    with pytest.raises(Conflict, match="another SAE, corpus or settings"):
        write.begin_run(shelf, *arguments, {"k": 2}, "run-2")


def test_an_unknown_corpus_or_run_is_named(shelf: Shelf) -> None:
    builders.fill(shelf)
    with pytest.raises(NotFound, match="no corpus 'nowhere'"):
        write.begin_run(shelf, "tiny", "0-res", "nowhere", {}, "run-2")
    with pytest.raises(NotFound, match="no run 'never'"):
        write.committed_ranges(shelf, "never")


def test_ranges_are_replaced_and_remembered(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    for first, n, seed in ((0, 32, 1), (32, 32, 1), (0, 32, 2)):
        write.put_features(shelf, "run-2", builders.batch(tokens, first, n, seed=seed))
    assert write.committed_ranges(shelf, "run-2") == [(0, 32), (32, 64)]
    write.finish_runs(shelf, {"run-2": {}})
    expected = builders.batch(tokens, 0, 32, seed=2)
    found = lookup.feature(shelf, "tiny", "0-res", 5)
    assert found.max_activation == expected.max_activation[5]
    assert found.density == expected.density[5]
    assert count(shelf, features) == 128


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 32)], "number 32 is the first"),
        ([(0, 16), (32, 32)], "number 16 is the first"),
        ([], "number 0 is the first"),
        ([(0, 65)], "has only 64"),
    ],
)
def test_a_run_with_missing_features_is_not_served(
    shelf: Shelf, ranges: list[tuple[int, int]], message: str
) -> None:
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    for first, n in ranges:
        write.put_features(shelf, "run-2", builders.batch(tokens, first, n))
    with pytest.raises(Conflict, match=message):
        write.finish_runs(shelf, {"run-2": {}})
    assert read.sae(shelf, "tiny", "0-res").run_id == "run-1"


def test_a_finished_run_is_served_and_says_what_it_was_made_from(shelf: Shelf) -> None:
    tokens = builders.corpus()
    write.put_model(shelf, builders.model_record(), builders.vocabulary())
    write.put_sae(shelf, builders.sae_record())
    assert read.sae(shelf, "tiny", "0-res").status == "registered"
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    builders.put_run(shelf, tokens, "run-1", seed=7)
    write.finish_runs(shelf, {"run-1": {"said": "again"}})
    sae = read.sae(shelf, "tiny", "0-res")
    assert (sae.status, sae.run_id) == ("ready", "run-1")
    assert sae.provenance == {
        "model": "f" * 64,
        "sae": "a" * 64,
        "corpus": "c" * 64,
        "settings": {"seed": 7},
        "run_id": "run-1",
        "statistics": {"n_tokens": tokens.record.n_tokens},
    }


def test_a_complete_run_takes_no_more(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    with pytest.raises(Conflict, match="it is complete"):
        write.put_features(shelf, "run-1", builders.batch(tokens, 0, 8))


def test_a_deleted_sae_is_gone_at_once_and_its_jobs_are_refused(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    write.delete_sae(shelf, "tiny", "0-res")
    for gone in (read.sae, read.features):
        with pytest.raises(NotFound, match="no SAE '0-res'"):
            gone(shelf, "tiny", "0-res")
    with pytest.raises(NotFound, match="no SAE '0-res'"):
        lookup.feature(shelf, "tiny", "0-res", 0)
    with pytest.raises(Conflict, match="it is superseded"):
        write.put_features(shelf, "run-2", builders.batch(tokens, 0, 8))
    write.put_sae(shelf, builders.sae_record())
    with pytest.raises(Conflict, match="its SAE was deleted"):
        write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, "run-2")
    write.delete_sae(shelf, "tiny", "0-res")
    write.put_sae(shelf, builders.sae_record(fingerprint="b" * 64))
    with pytest.raises(Conflict, match="it is superseded"):
        write.finish_runs(shelf, {"run-2": {}})
    assert count(shelf, run_ranges) == 2


def test_a_deleted_model_takes_its_saes_along(shelf: Shelf) -> None:
    builders.fill(shelf)
    write.delete_model(shelf, "tiny")
    assert read.models(shelf).items == []
    for gone in (read.model, read.vocabulary, read.saes):
        with pytest.raises(NotFound, match="no model 'tiny'"):
            gone(shelf, "tiny")
    with pytest.raises(NotFound):
        write.delete_model(shelf, "tiny")
    builders.fill(shelf, run_id="again", fingerprint="e" * 64)
    assert lookup.feature(shelf, "tiny", "0-res", 0).run_id == "again"


def test_corpora_of_equal_tokens_are_stored_once(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    stored = count(shelf, corpus_chunks)
    other = CorpusRecord(**{**dataclasses.asdict(tokens.record), "source": "another file"})
    write.put_corpus(shelf, other, tokens.flat, tokens.offsets)
    assert count(shelf, corpus_chunks) == stored


def test_a_run_that_is_begun_again_uses_no_number_up(shelf: Shelf) -> None:
    tokens = builders.fill(shelf)
    for run_id in ("run-2", "run-2", "run-3"):
        write.begin_run(shelf, "tiny", "0-res", tokens.record.id, {}, run_id)
    with shelf.read() as connection:
        numbers = connection.execute(select(runs.c.number).order_by(runs.c.number)).scalars().all()
    assert numbers == [1, 2, 3]
