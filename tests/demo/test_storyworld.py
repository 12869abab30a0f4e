"""The shipped model: loads offline, beats the 5-gram, writes in the genre it is given."""

import json
from pathlib import Path

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from worker.demo.concepts import CONCEPTS
from worker.demo.generator import GENRES, HELD_OUT_START, TRAIN_START, documents
from worker.demo.loss import SHIPPED, load, model_nats_per_byte, token_ngram_nats_per_byte
from worker.demo.probe import label_tokens, probe_f1, residuals, token_rule_f1
from worker.demo.samples import draw_samples, genre_consistency
from worker.demo.text_tokens import train_tokenizer
from worker.demo.train_model import CONTEXT, TOKENIZER_DOCUMENTS, VOCAB_SIZE

Shipped = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return load(SHIPPED)


def test_the_files_are_small_and_safe():
    names = {path.name for path in SHIPPED.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= names
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 7_000_000
    # transformer-lens guesses an architecture from such parts of a path.
    path = str(SHIPPED.relative_to(Path(__file__).parents[2]))
    assert not any(family in path for family in ("llama", "gemma", "gpt", "qwen", "mistral"))


def test_the_bridge_loads_it_offline(shipped: Shipped):
    model, tokenizer = shipped
    bridge = TransformerBridge.boot_transformers(str(SHIPPED), device="cpu")
    ids = torch.tensor([[0, *tokenizer("Once upon a time", add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        logits, cache = bridge.run_with_cache(ids)
        assert torch.allclose(logits, model(ids).logits, atol=1e-4)
    assert cache["blocks.2.hook_resid_post"].shape == (1, ids.shape[1], 128)
    assert cache["blocks.2.mlp.hook_post"].shape == (1, ids.shape[1], 512)


def test_its_tokenizer_is_the_one_of_its_seed_and_adds_no_bos(shipped: Shipped):
    tokenizer = shipped[1]
    made = json.loads((SHIPPED / "training.json").read_text())
    texts = (d.text for d in documents(made["seed"], TRAIN_START, TOKENIZER_DOCUMENTS))
    again = train_tokenizer(texts, VOCAB_SIZE)
    assert again.get_vocab() == tokenizer.get_vocab()
    for document in documents(0, HELD_OUT_START, 50):
        ids = tokenizer(document.text)["input_ids"]
        assert ids == again(document.text)["input_ids"]
        assert tokenizer.bos_token_id not in ids
        assert len(ids) < CONTEXT
        assert tokenizer.decode(ids) == document.text
    assert AutoTokenizer.from_pretrained(SHIPPED)("34")["input_ids"] == [
        tokenizer.convert_tokens_to_ids(digit) for digit in "34"
    ]


def test_it_beats_the_5_gram_clearly(shipped: Shipped):
    model, tokenizer = shipped
    held_out = list(documents(0, HELD_OUT_START, 150))
    peer = token_ngram_nats_per_byte(tokenizer, list(documents(0, TRAIN_START, 10_000)), held_out)
    assert model_nats_per_byte(model, tokenizer, held_out) < 0.8 * peer


def test_samples_stay_in_their_genre(shipped: Shipped):
    samples = draw_samples(*shipped, seed=1, per_genre=8, temperature=0.8)
    shares = genre_consistency(samples, seed=0)
    assert set(shares) == set(GENRES)
    assert sum(shares.values()) / len(shares) >= 0.95, shares
    assert min(shares.values()) >= 0.75, shares


def test_the_model_knows_what_the_token_does_not_say(shipped: Shipped):
    model, tokenizer = shipped
    held_out = list(documents(0, HELD_OUT_START, 400))
    labelled = label_tokens(tokenizer, held_out)
    stream = residuals(model, tokenizer, held_out, model.config.num_hidden_layers // 2)
    gain = probe_f1(stream, labelled) - token_rule_f1(labelled)
    contextual = [gain[i] for i, c in enumerate(CONCEPTS) if c.kind == "contextual"]
    assert sum(g > 0.15 for g in contextual) >= 15
