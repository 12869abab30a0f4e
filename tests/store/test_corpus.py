"""Windows of tokens, when all of a corpus is kept in memory, a part, or nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

import numpy as np
import pytest
from sqlalchemy import Connection

from app.errors import Gone
from app.store import corpus, find, garbage, write
from app.store.corpus import Corpus
from app.store.engine import Shelf
from tests.store import builders


def stored(shelf: Shelf, tokens: builders.Tokens) -> Corpus:
    """The corpus on the shelf, nothing of it in memory."""
    write.put_corpus(shelf, tokens.record, tokens.flat, tokens.offsets)
    with shelf.read() as connection:
        row = find.corpus(connection, tokens.record.id)
    return Corpus(corpus.StoredCorpus(row.number, row.chunk_sequences, row.token_bytes))


@pytest.mark.parametrize("vocab", [5_000, 100_000])
@pytest.mark.parametrize("kept_bytes", [corpus.KEPT_BYTES, 4_000, 0])
def test_windows_are_the_tokens_that_were_put(
    shelf: Shelf, kept_bytes: int, vocab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "KEPT_BYTES", kept_bytes)
    tokens = builders.corpus(100, vocab=vocab)
    random, found = np.random.default_rng(0), stored(shelf, tokens)
    for n in (0, 1, 3, 45, 1, 200):
        sequences = random.integers(0, 100, n).astype(np.int32)
        room = np.diff(tokens.offsets)[sequences]
        offsets = (random.random(n) * room).astype(np.int32)
        lengths = (random.random(n) * (room - offsets + 1)).astype(np.uint16)
        starts = tokens.offsets[sequences] + offsets
        windows = found.windows(shelf.read, sequences, offsets, lengths)
        assert windows.shape == (n, lengths.max(initial=0))
        for window, start, length in zip(windows, starts.tolist(), lengths.tolist(), strict=True):
            assert window[:length].tolist() == tokens.flat[start : start + length].tolist()
            assert (window[length:] == tokens.flat[start + length - 1]).all() or not length


@pytest.mark.parametrize("vocab", [5_000, 100_000])
def test_whole_sequences_are_the_tokens_that_were_put(shelf: Shelf, vocab: int) -> None:
    tokens = builders.corpus(100, vocab=vocab)
    found = stored(shelf, tokens)
    numbers = np.random.default_rng(0).permutation(100)
    sequences = found.sequences(shelf.read, numbers)
    for number, sequence in zip(numbers.tolist(), sequences, strict=True):
        begin, end = tokens.offsets[number], tokens.offsets[number + 1]
        assert sequence.tolist() == tokens.flat[begin:end].tolist()
    assert not found._places


def test_a_process_keeps_a_part_of_a_large_corpus(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "KEPT_BYTES", 4_000)
    tokens = builders.corpus(1_000)
    found, one = stored(shelf, tokens), np.ones(1, np.int32)
    for sequence in range(0, 1_000, 3):
        found.windows(shelf.read, one * sequence, one, one)
    assert found._kept.nbytes == 4_000
    assert len(found._places) < 10


def test_a_corpus_that_was_collected_is_gone(
    shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = stored(shelf, builders.corpus())
    garbage.collect_garbage(shelf, tmp_path_factory.mktemp("data"), timedelta(0))
    one = np.ones(1, np.int32)
    with pytest.raises(Gone, match="ask again"):
        found.windows(shelf.read, one, one, one)


def test_nobody_waits_while_another_reads_the_database(sqlite_shelf: Shelf) -> None:
    found, one = stored(sqlite_shelf, builders.corpus(100)), np.ones(1, np.int32)
    found.windows(sqlite_shelf.read, 0 * one, one, one)
    asked, answer = Event(), Event()

    @contextmanager
    def slow() -> Iterator[Connection]:
        asked.set()
        assert answer.wait(60)
        with sqlite_shelf.read() as connection:
            yield connection

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(found.windows, slow, 99 * one, one, one)
        assert asked.wait(60)
        try:
            threads.submit(found.windows, slow, 0 * one, one, one).result(20)
            assert not waiting.done()
        finally:
            answer.set()
        assert waiting.result().shape == (1, 1)
