"""Random language models of a fixed shape, as folders and in memory."""

from pathlib import Path

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from worker.models import LanguageModel, load_model

HOOK = "blocks.2.hook_resid_post"
VOCABULARY, CONTEXT, D_MODEL = 5_000, 128, 256


def make_model(folder: Path, d_model: int = D_MODEL, device: str = "cpu") -> LanguageModel:
    """A random GPT-2 of four layers whose residual stream depends mostly on the token."""
    torch.manual_seed(0)
    made = GPT2LMHeadModel(_config(VOCABULARY, d_model, 4, CONTEXT))
    torch.nn.init.normal_(made.transformer.wte.weight)
    _save(made, folder)
    return load_model("bench", folder, device=torch.device(device))


@torch.no_grad()
def make_embedded(
    folder: Path, embeddings: Float[torch.Tensor, "vocabulary d_model"], context: int
) -> LanguageModel:
    """A GPT-2 of one layer with these embeddings and without positions, so that they are what
    `blocks.0.hook_resid_pre` carries."""
    vocabulary, d_model = embeddings.shape
    made = GPT2LMHeadModel(_config(vocabulary, d_model, 1, context))
    made.transformer.wte.weight.copy_(embeddings)
    made.transformer.wpe.weight.zero_()
    _save(made, folder)
    return load_model("embedded", folder)


def _config(vocabulary: int, d_model: int, layers: int, context: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary, n_embd=d_model, n_layer=layers, n_head=4, n_positions=context,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def _save(made: GPT2LMHeadModel, folder: Path) -> None:
    made.save_pretrained(folder)
    words = {"<s>": 0, **{f"w{i}": i for i in range(1, made.config.vocab_size)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
