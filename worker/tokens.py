"""Tokens of a corpus: ragged sequences of token ids, stored once per corpus, read in batches.

A document is one sequence, or several when it is longer than the context. `_head_and_body` is the
one place where BOS is put in front: in a corpus as in a request's text, it is there when the SAEs
that read the tokens were trained so, and when they do not say, as the model wants it.
"""

import hashlib
import operator
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer

from app.errors import Invalid
from worker.durable import write_folder
from worker.models import LanguageModel
from worker.progress import Progress, silent

_DOCUMENTS = 512
_CHARACTERS = 2**22
"""Documents given to the tokenizer at a time."""
_MACRO_BATCHES = 64
"""Batches' worth of tokens within which sequences are sorted by length."""
_HASHED = 2**20
"""Tokens fingerprinted at a time."""


@dataclass(frozen=True)
class Sequences:
    """Tokens of a corpus; sequence i is `flat[offsets[i]:offsets[i + 1]]`."""

    flat: Integer[np.ndarray, " tokens"]
    """uint16 where every id fits, else int32; may be a memory map."""
    offsets: Int[np.ndarray, " sequences_plus_1"]
    """int64, from 0 to the number of tokens."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Batch:
    """Some sequences, right-padded with id 0."""

    rows: Int[np.ndarray, " batch"]
    """Which sequences of the corpus."""
    ids: Int[torch.Tensor, "batch seq"]
    """int64 token ids."""
    mask: Bool[torch.Tensor, "batch seq"]
    """False on padding."""


def encode_text(model: LanguageModel, text: str, prepend_bos: bool | None = None) -> list[int]:
    """Token ids of one text, with BOS in front as `prepend_bos` or else the model says.

    Text that spells out BOS at its start gets no second one.
    """
    head, body = _head_and_body(model, _tokenize(model, [text])[0], prepend_bos)
    return head + body


def begins_with_bos(model: LanguageModel, prepend_bos: bool | None) -> bool:
    """Whether a model's texts begin with BOS: as `prepend_bos` or else the model says, and never
    where the model has none."""
    wanted = model.prepend_bos if prepend_bos is None else prepend_bos
    return wanted and model.bos_id is not None


def tokenizer_prepends_bos(model: LanguageModel) -> bool:
    """Whether a model's tokenizer by itself puts BOS in front of a text."""
    ids = model.tokenizer("", add_special_tokens=True)["input_ids"]
    return model.bos_id is not None and ids[:1] == [model.bos_id]


def check_context(context_size: int | None, model_context: int, model_id: str) -> None:
    """Raises Invalid for a context that does not suit a model; None is the model's own."""
    if context_size is not None and not 2 <= context_size <= model_context:
        raise Invalid(
            f"context_size is {context_size}, but {model_id} reads 2 to {model_context} tokens; "
            "choose one within or leave it out."
        )


def tokenize_corpus(
    model: LanguageModel,
    texts: Iterable[str],
    context_size: int,
    on_progress: Progress = silent,
    *,
    prepend_bos: bool | None = None,
    scratch: Path | None = None,
) -> Sequences:
    """Tokenize documents and cut them to `context_size` tokens, BOS included, which is put in
    front of each sequence as `prepend_bos` or else the model says.

    The tokens are gathered in an unnamed file in `scratch` (else the system's temporary folder) and
    mapped, so a corpus takes disk and little memory.

    Reports phase `tokenize` in documents; the total grows with them where `texts` has no length.

    Raises:
        Invalid: no document gives a token, the context size does not suit the model, or the
            tokenizer gives an id that the model has no embedding for.
    """
    check_context(context_size, model.context_size, model.id)
    dtype = np.uint16 if model.vocab_size <= 2**16 else np.int32
    lengths = array("q")
    total, documents, started = operator.length_hint(texts), 0.0, time.monotonic()
    stream = iter(texts)
    with TemporaryFile(dir=scratch) as file:
        while group := _group(stream):
            whole = _tokenize(model, group)
            cut = [part for ids in whole for part in _cut(model, ids, context_size, prepend_bos)]
            lengths.extend(map(len, cut))
            file.write(_checked(model, cut).astype(dtype).data)
            documents += len(group)
            rate = documents / max(time.monotonic() - started, 1e-9)
            on_progress("tokenize", documents, max(float(total), documents), rate)
        if not lengths:
            raise Invalid("The corpus gives no tokens; it needs at least one document with text.")
        file.flush()
        flat = np.memmap(file, dtype, mode="r")
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Sequences(flat, offsets)


def _group(stream: Iterator[str]) -> list[str]:
    """The next documents, few enough to be in memory as lists of tokens."""
    group, characters = [], 0
    for text in stream:
        group.append(text)
        characters += len(text)
        if len(group) == _DOCUMENTS or characters >= _CHARACTERS:
            break
    return group


def corpus_fingerprint(sequences: Sequences, context_size: int, prepend_bos: bool) -> str:
    """sha256, in hex, over the tokens, the context size and the BOS setting."""
    digest = hashlib.sha256(f"{context_size} {prepend_bos}".encode())
    digest.update(sequences.offsets.astype("<i8").tobytes())
    for start in range(0, len(sequences.flat), _HASHED):
        digest.update(sequences.flat[start : start + _HASHED].astype("<i4").tobytes())
    return digest.hexdigest()


def save_corpus(corpora: Path, corpus_id: str, sequences: Sequences) -> Path:
    """Store the tokens under the folder `corpora` by their fingerprint; return their folder.

    Tokens that are there already are left alone. A crash leaves the whole folder or none.
    """

    def fill(folder: Path) -> None:
        np.save(folder / "tokens.npy", sequences.flat)
        np.save(folder / "offsets.npy", sequences.offsets)

    folder = corpora / corpus_id[:16]
    write_folder(folder, fill)
    return folder


def load_corpus(folder: Path) -> Sequences:
    """Tokens stored by `save_corpus`, memory-mapped."""
    flat = np.load(folder / "tokens.npy", mmap_mode="r")
    return Sequences(flat, np.load(folder / "offsets.npy"))


def batches(
    sequences: Sequences, batch_tokens: int, first: int = 0, last: int | None = None
) -> Iterator[Batch]:
    """Right-padded batches of sequences `first` to `last`, of `batch_tokens` ids with padding.

    Sequences are sorted by length inside macro batches, so that little is padding; what is in
    which batch depends on the arguments alone. A longer sequence than `batch_tokens` comes alone.
    """
    last = len(sequences) if last is None else last
    while first < last:
        target = sequences.offsets[first] + _MACRO_BATCHES * batch_tokens
        stop = min(last, max(first + 1, int(np.searchsorted(sequences.offsets, target))))
        lengths = np.diff(sequences.offsets[first : stop + 1])
        order = np.argsort(lengths, kind="stable")
        for low, high in _groups(lengths[order], batch_tokens):
            yield _pad(sequences, first + order[low:high], lengths[order[low:high]])
        first = stop


def _groups(lengths: np.ndarray, batch_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut ascending lengths into batches of at most `batch_tokens`, counting padding."""
    low = 0
    for high in range(1, len(lengths) + 1):
        if high == len(lengths) or (high + 1 - low) * lengths[high] > batch_tokens:
            yield low, high
            low = high


def _pad(sequences: Sequences, rows: np.ndarray, lengths: np.ndarray) -> Batch:
    position = np.arange(lengths.max())
    mask = position < lengths[:, None]
    where = sequences.offsets[rows][:, None] + position
    ids = np.where(mask, sequences.flat[np.where(mask, where, 0)], 0).astype(np.int64)
    return Batch(rows, torch.from_numpy(ids), torch.from_numpy(mask))


def _tokenize(model: LanguageModel, texts: list[str]) -> list[list[int]]:
    encoded = model.tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    return encoded["input_ids"]


def _head_and_body(
    model: LanguageModel, ids: list[int], prepend_bos: bool | None
) -> tuple[list[int], list[int]]:
    """BOS where it is wanted, and the text's own tokens without a BOS that it spells out itself."""
    wanted = begins_with_bos(model, prepend_bos)
    head = [model.bos_id] if wanted and model.bos_id is not None else []
    return head, ids[1:] if head and ids[:1] == head else ids


def _cut(
    model: LanguageModel, ids: list[int], context_size: int, prepend_bos: bool | None
) -> Iterator[list[int]]:
    """The document's sequences; none when it has no tokens of its own."""
    head, body = _head_and_body(model, ids, prepend_bos)
    step = context_size - len(head)
    for start in range(0, len(body), step):
        yield head + body[start : start + step]


def _checked(model: LanguageModel, cut: list[list[int]]) -> np.ndarray:
    ids = np.fromiter(chain.from_iterable(cut), dtype=np.int64)
    if ids.size and ids.max() >= model.vocab_size:
        raise Invalid(
            f"The tokenizer of {model.id} gives id {ids.max()}, but the model has embeddings for "
            f"{model.vocab_size} ids only; register the model with its own tokenizer."
        )
    return ids
