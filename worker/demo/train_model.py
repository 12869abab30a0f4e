"""Trains storyworld from nothing: text, tokenizer, model.

1. Train the tokenizer on the first documents of the seed.
2. Pack as many new documents as the steps need into rows of one context each; no text is seen
   twice.
3. AdamW with a linear warm-up and a cosine decay for a fixed number of steps, so the weights are
   a function of the seed, the machine and the number of threads.
4. Save in the Hugging Face layout.

    python -m worker.demo.train_model --out DIR [--seed 0] [--steps 1600] [--threads 2]
"""

import argparse
import json
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from rich.progress import track
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from worker.demo.generator import TRAIN_START, document, documents
from worker.demo.scribe import Document
from worker.demo.text_tokens import packed_rows, train_tokenizer

VOCAB_SIZE = 2048
CONTEXT = 256
BATCH_ROWS = 16
TOKENIZER_DOCUMENTS = 8_000
PEAK_LEARNING_RATE = 2.5e-3


class Trained(NamedTuple):
    """What training leaves."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    documents: int
    """How many documents the model has seen, `TRAIN_START` onwards."""


def new_model(vocab_size: int, seed: int) -> LlamaForCausalLM:
    """An untrained model; the caller's random state is left as it was."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=CONTEXT,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine down to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return PEAK_LEARNING_RATE * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))


def train(seed: int, steps: int, device: str = "cpu") -> Trained:
    """Train for `steps` batches of `BATCH_ROWS` contexts; deterministic on one CPU machine."""
    tokenizer = train_tokenizer(
        (d.text for d in documents(seed, TRAIN_START, TOKENIZER_DOCUMENTS)), VOCAB_SIZE
    )
    rows, used = packed_rows(tokenizer, _endless(seed), CONTEXT + 1, steps * BATCH_ROWS)
    batches = torch.from_numpy(rows.astype("int64")).split(BATCH_ROWS)
    model = new_model(len(tokenizer), seed)
    torch.nn.Module.to(model, device)
    _fit(model, batches, device)
    return Trained(model.cpu(), tokenizer, used)


def _endless(seed: int) -> Iterator[Document]:
    return (document(seed, index) for index in count(TRAIN_START))


def _fit(
    model: LlamaForCausalLM, batches: tuple[Int[torch.Tensor, "rows ids"], ...], device: str
) -> None:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    model.train()
    for step, batch in enumerate(track(batches, "training storyworld")):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(batches))
        ids = batch.to(device)
        logits = model(ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: {loss.item():.3f} nats a token", flush=True)
    model.eval()


def save(trained: Trained, out: Path, seed: int, steps: int) -> None:
    """Write config, weights, tokenizer, and how they were made (`training.json`) to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    trained.model.save_pretrained(out)
    trained.tokenizer.save_pretrained(out)
    made = {
        "seed": seed,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "documents": trained.documents,
        "parameters": trained.model.num_parameters(),
    }
    (out / "training.json").write_text(json.dumps(made, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train storyworld from its own text.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model's files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    trained = train(options.seed, options.steps, options.device)
    save(trained, options.out, options.seed, options.steps)
    print(f"{options.out}: {trained.documents} documents, {trained.model.num_parameters()} weights")


if __name__ == "__main__":
    main()
