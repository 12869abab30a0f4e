"""storyworld's tokenizer, and its text packed into rows of token ids."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from jaxtyping import UInt16
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from worker.demo.scribe import Document

BOS = "<|bos|>"
_CHUNK = 1_000


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose digits are tokens of their own; it adds no BOS by itself.

    A digit stands alone, without the blank before it, so that only its place in the number tells
    tens from units.
    """
    bpe = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=BOS,
        clean_up_tokenization_spaces=False,
    )


def token_ids(
    tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document]
) -> Iterator[list[int]]:
    """Each document's ids, BOS first."""
    assert isinstance(tokenizer.bos_token_id, int)
    texts = (document.text for document in documents)
    while chunk := list(islice(texts, _CHUNK)):
        for ids in tokenizer(chunk, add_special_tokens=False)["input_ids"]:
            yield [tokenizer.bos_token_id, *ids]


def packed_rows(
    tokenizer: PreTrainedTokenizerFast, documents: Iterable[Document], length: int, count: int
) -> tuple[UInt16[np.ndarray, "count length"], int]:
    """`count` rows of `length` ids, and how many documents they took.

    Every row begins with a document's BOS, and what does not fit the row is dropped, so every
    position of a row meets every part of a document.
    """
    rows = np.empty((count, length), dtype=np.uint16)
    stream = token_ids(tokenizer, documents)
    used = 0
    for row in rows:
        filled = 0
        while filled < length:
            ids = next(stream)[: length - filled]
            row[filled : filled + len(ids)] = ids
            filled, used = filled + len(ids), used + 1
    return rows, used
