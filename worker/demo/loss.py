"""Loss in nats a byte: a model's, and that of the 5-gram peers on the same documents."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Tokenizer

from worker.demo.ngram import NGram
from worker.demo.scribe import Document
from worker.demo.text_tokens import token_ids

SHIPPED = Path(__file__).parent / "storyworld"
"""The bundled model's folder."""
_BYTE_BOS = 256


def load(path: Path) -> tuple[LlamaForCausalLM, Tokenizer]:
    """A model directory, ready for measuring."""
    model = LlamaForCausalLM.from_pretrained(path, local_files_only=True).eval()
    return model, AutoTokenizer.from_pretrained(path, local_files_only=True)


@torch.inference_mode()
def model_nats_per_byte(
    model: LlamaForCausalLM, tokenizer: Tokenizer, held_out: list[Document]
) -> float:
    """The loss of every document by itself after a BOS, summed, over the bytes of all."""
    nats = 0.0
    for ids in token_ids(tokenizer, held_out):
        log_probabilities = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        nats -= log_probabilities[:-1].gather(1, torch.tensor(ids[1:])[:, None]).sum().item()
    return nats / _bytes(held_out)


def token_ngram_nats_per_byte(
    tokenizer: Tokenizer, training: list[Document], held_out: list[Document]
) -> float:
    """The 5-gram peer over the model's own tokens."""
    peer = NGram(list(token_ids(tokenizer, training)), len(tokenizer))
    return _peer_nats(peer, list(token_ids(tokenizer, held_out))) / _bytes(held_out)


def byte_ngram_nats_per_byte(training: list[Document], held_out: list[Document]) -> float:
    """The 5-gram peer over bytes."""
    peer = NGram([_byte_ids(d) for d in training], _BYTE_BOS + 1)
    return _peer_nats(peer, [_byte_ids(d) for d in held_out]) / _bytes(held_out)


def _peer_nats(peer: NGram, sequences: list[list[int]]) -> float:
    return -sum(float(peer.log_probabilities(s).sum()) for s in sequences)


def _byte_ids(document: Document) -> list[int]:
    return [_BYTE_BOS, *document.text.encode()]


def _bytes(texts: list[Document]) -> int:
    return sum(len(document.text.encode()) for document in texts)
