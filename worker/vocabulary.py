"""What every token of a tokenizer stands for: exact bytes, and a string to show.

Two families cover the tokenizers of language models:
- byte-level (GPT-2, Llama 3, Qwen): a token is written with one character per byte;
- SentencePiece (Llama 2, Gemma, Mistral): `▁` is a space, `<0x0A>` is one byte.
Anything else is taken literally.

The bytes of `encode(text)` joined are the bytes of the text, as the tokenizer normalises it. Where
a tokenizer puts a space in front of every text (Llama 2), the first token's bytes hold that space.
"""

import json
import re
from collections.abc import Callable

from transformers import PreTrainedTokenizerFast

from app.store.records import Vocabulary

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def read_vocabulary(tokenizer: PreTrainedTokenizerFast, size: int) -> Vocabulary:
    """The vocabulary, as long as the longer of the tokenizer and the model's `size`.

    Ids that no token has are shown as `<unused 399>`, with no bytes.
    """
    special = special_ids(tokenizer)
    added = tokenizer.added_tokens_decoder
    pieces = {index: piece for piece, index in tokenizer.get_vocab().items()}
    to_bytes = _reader(tokenizer)
    display, raw = [], []
    for index in range(max(size, max(pieces) + 1)):
        piece = pieces.get(index)
        if piece is None or index in special:
            display.append(piece or f"<unused {index}>")
            raw.append(b"")
        else:
            raw.append(piece.encode() if index in added else to_bytes(piece))
            display.append(show(raw[-1]))
    return Vocabulary(display=display, raw=raw, special=sorted(special))


def special_ids(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Ids of special tokens: those with a role (BOS, EOS, padding) and those declared special."""
    declared = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset([*tokenizer.all_special_ids, *declared])


def show(raw: bytes) -> str:
    r"""Bytes as a readable string; what is not UTF-8 by itself becomes `\xe2\x80`."""
    return raw.decode("utf-8", errors="backslashreplace")


def _reader(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bytes]:
    """The function from a token as the tokenizer writes it to its bytes."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    kinds = json.dumps([parts["pre_tokenizer"], parts["decoder"]])
    if '"ByteLevel"' in kinds:
        return _read_byte_level
    if "▁" in json.dumps(parts["decoder"], ensure_ascii=False) or '"Metaspace"' in kinds:
        return _read_sentencepiece
    return str.encode


def _read_sentencepiece(piece: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


def _read_byte_level(piece: str) -> bytes:
    if any(character not in _BYTE_OF_CHARACTER for character in piece):
        return piece.encode()
    return bytes(_BYTE_OF_CHARACTER[character] for character in piece)


def _byte_alphabet() -> dict[str, int]:
    """The character that GPT-2 writes for each byte, inverted: printable Latin-1 stands for
    itself, every other byte for the next free character from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + position): byte for position, byte in enumerate(others)
    }


_BYTE_OF_CHARACTER = _byte_alphabet()
