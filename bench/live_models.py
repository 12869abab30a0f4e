"""Models and SAEs of the live benches: the bundled one, and two with random weights of usual sizes.

They are folders in the formats that users bring, put on a shelf of their own as a `load` job does.
Random models have a tokenizer of words and no EOS, so that every answer is as long as it was asked
to be.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import torch
from sae_lens import SAE
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from app.store import write
from worker.activations import capture
from worker.jobs.job import Bench
from worker.jobs.load import model_record, register_sae
from worker.jobs.paths import DEMO
from worker.models import LanguageModel, load_model, vocabulary
from worker.saes import Dictionary, load_sae
from worker.tokens import encode_text

TOKENS = 32
"""Of every prompt and every text, BOS included."""
ACTIVE = 30
"""Active features a token of a random SAE, about."""
_WORD = re.compile(r" [a-z0-9]{2,}")


@dataclass(frozen=True)
class Case:
    """A model with an SAE in its middle."""

    name: str
    """With its size, as promises name it."""
    model: LanguageModel
    dictionary: Dictionary
    sae_folder: Path

    def texts(self, n: int, seed: int) -> list[str]:
        """Random texts of `TOKENS` tokens."""
        random = Random(seed)
        length = TOKENS - self.model.prepend_bos
        return ["".join(random.choices(self._words, k=length)) for _ in range(n)]

    @cached_property
    def _words(self) -> list[str]:
        """Words with a space in front, each a token by itself."""
        shown = {f" {word.strip()}" for word in vocabulary(self.model).display}
        words = sorted(word for word in shown if _WORD.fullmatch(word))
        return [word for word in words if len(encode_text(self.model, word, False)) == 1]

    def register(self, bench: Bench) -> None:
        """Put both on a shelf."""
        record = model_record(self.model, self.model.fingerprint, "bench")
        write.put_model(bench.shelf, record, vocabulary(self.model))
        register_sae(bench, self.model.id, self.sae_folder, self.dictionary)


def storyworld(_folder: Path) -> Case:
    """The bundled model and one of its SAEs."""
    model = load_model("storyworld", DEMO / "storyworld")
    folder = DEMO / "saes" / "2-res-topk"
    return Case("storyworld", model, load_sae(folder.name, folder, model=model), folder)


def llama_32m(folder: Path) -> Case:
    """Eight layers, grouped keys."""
    config = LlamaConfig(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, vocab_size=8192, max_position_embeddings=1024,
        bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    return _random_case("32 M", "random-32m", folder, lambda: LlamaForCausalLM(config))


def gpt2_124m(folder: Path) -> Case:
    """GPT-2 small."""
    config = GPT2Config(bos_token_id=1, eos_token_id=None)
    return _random_case("124 M", "random-124m", folder, lambda: GPT2LMHeadModel(config))


def _random_case(
    name: str, model_id: str, folder: Path, make: Callable[[], PreTrainedModel]
) -> Case:
    model = save_model(folder / model_id, make)
    sae_folder = save_sae(folder / f"{model_id}-sae", model, 16_384)
    sae_id = f"{model.n_layers // 2}-res"
    return Case(name, model, load_sae(sae_id, sae_folder, model=model), sae_folder)


def save_model(folder: Path, make: Callable[[], PreTrainedModel]) -> LanguageModel:
    """A model with random weights and a tokenizer of the words w0, w1, ..."""
    torch.manual_seed(0)
    model = make()
    words = {f"w{i}": i for i in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="w1").save_pretrained(folder)
    return load_model(folder.name, folder)


@torch.no_grad()
def save_sae(folder: Path, model: LanguageModel, d_sae: int) -> Path:
    """A random ReLU SAE in the middle of a model, as a SAELens folder."""
    hook = f"blocks.{model.n_layers // 2}.hook_resid_post"
    torch.manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, model.d_model))
    ids = torch.randint(3, model.vocab_size, (4, TOKENS))
    reached = (capture(model, ids, [hook])[hook].flatten(0, 1) @ rows.T).flatten()
    sae = SAE.from_dict({
        "architecture": "standard", "d_in": model.d_model, "d_sae": d_sae,
        "metadata": {"hook_name": hook, "model_name": "bench", "prepend_bos": True},
    })  # fmt: skip
    sae.W_dec.data, sae.W_enc.data = rows, rows.T.contiguous()
    sae.get_parameter("b_enc").data.fill_(-reached.topk(ACTIVE * ids.numel()).values[-1].item())
    sae.save_model(folder)
    return folder
