"""A language model whose residual stream is made of known directions.

Its token embeddings are sums of a few of `FEATURES` random unit directions with random strengths,
and it has no position embeddings, so what `blocks.0.hook_resid_pre` carries is known exactly.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from app.contract.jobs import TrainSpec
from tests.worker.tiny import bpe_tokenizer
from worker.models import LanguageModel, load_model
from worker.tokens import Sequences
from worker.train.sparsity import L1_ARCHITECTURES

D_MODEL, FEATURES, ACTIVE, VOCABULARY, CONTEXT = 32, 64, 3, 4_000, 64
HOOK = "blocks.0.hook_resid_pre"


@dataclass(frozen=True)
class Planted:
    """The model, the directions in it, and a corpus of random tokens."""

    model: LanguageModel
    directions: torch.Tensor
    """[FEATURES, D_MODEL], unit rows."""
    sequences: Sequences


def save_planted(folder: Path) -> torch.Tensor:
    """Write the model as a Hugging Face folder; the directions."""
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(FEATURES, D_MODEL), dim=1)
    strengths = torch.zeros(VOCABULARY, FEATURES)
    chosen = torch.rand(VOCABULARY, FEATURES).topk(ACTIVE, dim=1).indices
    strengths.scatter_(1, chosen, 0.5 + torch.rand(VOCABULARY, ACTIVE))
    tokenizer = bpe_tokenizer()
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=D_MODEL, n_layer=2, n_head=2, n_inner=48,
        n_positions=CONTEXT, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.transformer.wte.weight.copy_(strengths @ directions)
        model.transformer.wpe.weight.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return directions


def random_sequences(count: int = 400, seed: int = 0) -> Sequences:
    """Sequences of 2 to 64 tokens, BOS (0) first, the rest uniform and never special."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, CONTEXT + 1, size=count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = random.integers(2, VOCABULARY, size=offsets[-1]).astype(np.uint16)
    flat[offsets[:-1]] = 0
    return Sequences(flat, offsets)


def load_planted(folder: Path) -> Planted:
    """Write and load it all."""
    directions = save_planted(folder)
    return Planted(load_model("planted", folder), directions, random_sequences())


def spec(**changes: object) -> TrainSpec:
    """A short run that every test can afford; `changes` are fields of TrainSpec."""
    fields = {
        "model": "planted", "sae": "0-test", "hook_name": HOOK, "d_sae": 128,
        "training_tokens": 60 * 256, "train_batch_tokens": 256,
    }  # fmt: skip
    if changes.get("architecture") not in L1_ARCHITECTURES:
        fields["k"] = ACTIVE
    return TrainSpec.model_validate({**fields, **changes})
