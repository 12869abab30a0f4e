"""Tokens: BOS in one place, cutting, storage, and batches that lose and repeat nothing."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from app.errors import Invalid
from tests.worker.tiny import TEXT, bpe_tokenizer, save_model
from worker import tokens
from worker.models import LanguageModel, load_model
from worker.tokens import (
    Sequences,
    batches,
    begins_with_bos,
    corpus_fingerprint,
    encode_text,
    load_corpus,
    save_corpus,
    tokenize_corpus,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model("tiny", save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model whose tokenizer knows no BOS."""
    folder = tmp_path_factory.mktemp("model") / "bare"
    return load_model("bare", save_model(folder, tokenizer=bpe_tokenizer(bos=False)))


def sequences_of(lengths: list[int]) -> Sequences:
    """Token i of the corpus has id i."""
    return Sequences(
        np.arange(sum(lengths), dtype=np.int32), np.cumsum([0, *lengths], dtype=np.int64)
    )


def listed(sequences: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(sequences.flat, sequences.offsets[1:-1])]


def test_bos_is_put_once(model: LanguageModel) -> None:
    plain = model.tokenizer(TEXT[0], add_special_tokens=False)["input_ids"]
    assert encode_text(model, TEXT[0]) == [model.bos_id, *plain]
    assert encode_text(model, TEXT[0], prepend_bos=False) == plain
    assert encode_text(model, "<s>" + TEXT[0]) == [model.bos_id, *plain]
    assert encode_text(model, "<s><s>" + TEXT[0]) == [model.bos_id, model.bos_id, *plain]
    assert encode_text(model, "") == [model.bos_id]


def test_no_bos_where_the_tokenizer_has_none(bare: LanguageModel) -> None:
    plain = bare.tokenizer(TEXT[0], add_special_tokens=False)["input_ids"]
    assert encode_text(bare, TEXT[0]) == encode_text(bare, TEXT[0], prepend_bos=True) == plain
    sequences = tokenize_corpus(bare, TEXT[:1], 8)
    assert sequences.flat.tolist() == plain
    assert set(np.diff(sequences.offsets)[:-1]) == {8}


def test_a_long_document_is_several_sequences(model: LanguageModel) -> None:
    whole = encode_text(model, TEXT[0])
    cut = listed(tokenize_corpus(model, [TEXT[0], "", "<s>", "<s>" + TEXT[0]], 7))
    half = len(cut) // 2
    assert cut[:half] == cut[half:]
    assert all(part[0] == model.bos_id and 2 <= len(part) <= 7 for part in cut)
    assert [token for part in cut[:half] for token in part[1:]] == whole[1:]
    assert listed(tokenize_corpus(model, [TEXT[0]], len(whole))) == [whole]


def test_bos_is_left_out_where_it_is_not_wanted(model: LanguageModel, bare: LanguageModel) -> None:
    plain = model.tokenizer(TEXT[0], add_special_tokens=False)["input_ids"]
    sequences = tokenize_corpus(model, TEXT[:1], 8, prepend_bos=False)
    assert sequences.flat.tolist() == plain
    assert listed(tokenize_corpus(model, TEXT[:1], 8, prepend_bos=True)) == listed(
        tokenize_corpus(model, TEXT[:1], 8)
    )
    told = (None, True, False)
    assert [begins_with_bos(model, one) for one in told] == [True, True, False]
    assert [begins_with_bos(bare, one) for one in told] == [False] * 3


def test_tokenizing_streams_and_reports(model: LanguageModel) -> None:
    reports: list[tuple[str, float, float]] = []
    texts = (TEXT[number % 4] for number in range(1000))
    sequences = tokenize_corpus(
        model, texts, 64, lambda phase, done, total, *_: reports.append((phase, done, total))
    )
    assert reports == [("tokenize", 512, 512), ("tokenize", 1000, 1000)]
    assert listed(sequences) == 250 * listed(tokenize_corpus(model, TEXT[:4], 64))
    assert isinstance(sequences.flat, np.memmap)
    assert sequences.flat.dtype == np.uint16


def test_long_documents_are_tokenized_few_at_a_time(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_CHARACTERS", len(TEXT[0]) + 1)
    done: list[float] = []
    sequences = tokenize_corpus(model, TEXT[:1] * 5, 64, lambda _, now, *__: done.append(now))
    assert done == [2, 4, 5]
    assert listed(sequences) == 5 * listed(tokenize_corpus(model, TEXT[:1], 64))


def test_what_cannot_work_is_refused(model: LanguageModel) -> None:
    with pytest.raises(Invalid, match="gives no tokens"):
        tokenize_corpus(model, ["", "<s>"], 8)
    for size in (1, 65):
        with pytest.raises(Invalid, match=f"context_size is {size}, but tiny reads 2 to 64"):
            tokenize_corpus(model, TEXT, size)


def test_an_id_without_embedding_is_refused(model: LanguageModel) -> None:
    model.tokenizer.add_tokens(["zzz"])
    with pytest.raises(Invalid, match=r"gives id 400, .* 400 ids only"):
        tokenize_corpus(model, ["zzz"], 8)


def test_stored_once_by_fingerprint(tmp_path: Path) -> None:
    sequences = sequences_of([3, 1, 4])
    corpus_id = corpus_fingerprint(sequences, 8, True)
    folder = save_corpus(tmp_path / "corpora", corpus_id, sequences)
    written = (folder / "tokens.npy").stat()
    assert save_corpus(tmp_path / "corpora", corpus_id, sequences) == folder
    assert (folder / "tokens.npy").stat() == written
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == [corpus_id[:16]]
    assert listed(load_corpus(folder)) == listed(sequences)


def test_fingerprint_depends_on_all_that_matters() -> None:
    base = sequences_of([3, 1, 4])
    fingerprints = [
        corpus_fingerprint(base, 8, True),
        corpus_fingerprint(base, 9, True),
        corpus_fingerprint(base, 8, False),
        corpus_fingerprint(sequences_of([3, 4, 1]), 8, True),
        corpus_fingerprint(Sequences(base.flat + 1, base.offsets), 8, True),
    ]
    assert len(set(fingerprints)) == 5
    narrow = Sequences(base.flat.astype(np.uint16), base.offsets)
    assert corpus_fingerprint(narrow, 8, True) == fingerprints[0]


@pytest.mark.parametrize("batch_tokens", [1, 16, 100, 10_000])
def test_batches_hold_every_sequence_once(batch_tokens: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, size=300).tolist()
    sequences = sequences_of(lengths)
    expected, seen = listed(sequences), []
    for batch in batches(sequences, batch_tokens):
        assert len(batch.rows) == 1 or batch.ids.numel() <= batch_tokens
        assert batch.mask.any(0).all()
        for row, ids, mask in zip(batch.rows, batch.ids, batch.mask, strict=True):
            assert ids[mask].tolist() == expected[row]
            assert mask.sum() == len(expected[row]) and not ids[~mask].any()
            seen.append(row)
    assert sorted(seen) == list(range(300))


def test_batches_of_a_part_are_those_of_that_part() -> None:
    lengths = np.random.default_rng(1).integers(1, 30, size=100).tolist()
    sequences = sequences_of(lengths)
    rows = [batch.rows.tolist() for batch in batches(sequences, 64, 20, 70)]
    assert sorted(chain.from_iterable(rows)) == list(range(20, 70))
    assert rows == [batch.rows.tolist() for batch in batches(sequences, 64, 20, 70)]


def test_little_is_padding() -> None:
    lengths = np.random.default_rng(2).integers(1, 200, size=4000).tolist()
    cut = list(batches(sequences_of(lengths), 2048))
    assert sum(lengths) / sum(batch.ids.numel() for batch in cut) > 0.95
