"""The bytes of tokens add up to the text; what is shown can be read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from app.store.records import Vocabulary
from tests.worker.tiny import TEXT, ModelKind, bpe_tokenizer, spm_tokenizer
from worker.models import LanguageModel, vocabulary
from worker.vocabulary import read_vocabulary, show

STORIES = Path(__file__).parents[3] / "shared/data/models/stories260K"
TEXTS = [*TEXT, " leading", "tabs\t\tand\n\nlines", "Ünïcödé 漢字 👩‍👩‍👧 \x00\x7f", "a", "  "]


def joined(tokenizer: PreTrainedTokenizerFast, words: Vocabulary, text: str) -> bytes:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return b"".join(words.raw[index] for index in ids)


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_byte_level_tokens_are_the_text(text: str) -> None:
    tokenizer = bpe_tokenizer()
    assert joined(tokenizer, read_vocabulary(tokenizer, 400), text) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_sentencepiece_tokens_are_the_text_after_a_space(text: str) -> None:
    tokenizer = spm_tokenizer()
    words = read_vocabulary(tokenizer, len(tokenizer))
    assert joined(tokenizer, words, text) == b" " + text.encode()


@pytest.mark.skipif(not STORIES.is_dir(), reason=f"needs {STORIES}")
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_a_real_tokenizer(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    words = read_vocabulary(tokenizer, 512)
    assert joined(tokenizer, words, text) == b" " + text.encode()


def test_special_tokens_have_no_bytes() -> None:
    words = read_vocabulary(bpe_tokenizer(), 400)
    assert words.special == [0, 1]
    assert (words.display[:2], words.raw[:2]) == (["<s>", "</s>"], [b"", b""])
    assert all(words.raw[2:])


def test_an_added_token_is_taken_literally() -> None:
    tokenizer = bpe_tokenizer()
    tokenizer.add_tokens(["<tool>", "naïve words"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    words = read_vocabulary(tokenizer, 403)
    assert (words.display[400:402], words.raw[401]) == (
        ["<tool>", "naïve words"],
        "naïve words".encode(),
    )
    assert (words.display[402], words.raw[402], words.special) == ("<|im_end|>", b"", [0, 1, 402])


def test_rows_without_a_token() -> None:
    words = read_vocabulary(bpe_tokenizer(), 403)
    assert (words.display[-2:], words.raw[-2:]) == (["<unused 401>", "<unused 402>"], [b"", b""])


def test_a_tokenizer_larger_than_the_model() -> None:
    assert len(read_vocabulary(bpe_tokenizer(), 10).raw) == 400


def test_parts_of_characters_are_shown_as_bytes() -> None:
    tokenizer = bpe_tokenizer()
    words = read_vocabulary(tokenizer, 400)
    shown = [words.display[index] for index in tokenizer.encode("é🙂")]
    assert shown == ["é", r"\xf0\x9f", r"\x99\x82"]
    assert show(b" \xe2\x80") == r" \xe2\x80"
    assert show(" naïve".encode()) == " naïve"


def test_display_strings_tell_tokens_apart() -> None:
    words = read_vocabulary(bpe_tokenizer(), 400)
    assert len(set(words.display)) == 400


def test_of_a_model(model_of: Callable[[ModelKind], LanguageModel]) -> None:
    model = model_of("llama")
    words = vocabulary(model)
    assert len(words.display) == len(words.raw) == model.vocab_size
    assert set(words.special) == model.special_ids
