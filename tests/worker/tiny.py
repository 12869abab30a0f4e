"""Tiny random models and SAEs on disk, in the formats that users bring.

Models have random weights and a byte-level BPE tokenizer trained here; SAEs have random weights
and are written by SAELens itself. All of it is a function of the seed.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from sae_lens import SAE, BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

ModelKind = Literal[
    "gpt2", "llama", "neox", "gemma2", "gemma3", "qwen2", "falcon", "opt", "mixtral"
]
MODEL_KINDS: tuple[ModelKind, ...] = ("gpt2", "llama", "neox", "gemma2", "qwen2")
"""Architectures that differ in what matters to most tests. `falcon` goes on writing into tensors
that it passed on, `opt` flattens batches inside its blocks, `mixtral` has experts for MLPs."""
SAE_KINDS = ("topk", "batchtopk", "standard", "jumprelu", "gated", "abstopk")

D_MODEL, N_LAYERS, D_MLP, N_HEADS, CONTEXT = 32, 3, 48, 4, 64

TEXT = [
    "The old keeper climbed the stairs and lit the lamp before the storm came in.",
    "Two cups of flour, one egg and a pinch of salt; stir until the dough is smooth.",
    "La mer était calme et le café fumait encore sur la table près de la fenêtre.",
    "def area(width, height):\n    return width * height\n",
    "Prices rose by 12 percent in March, the ministry said on Tuesday. 学 🙂",
]


def bpe_tokenizer(vocab_size: int = 400, bos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE like GPT-2's, trained on `TEXT`; `<s>` and `</s>` are special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, eos_token="</s>"
    )


def spm_tokenizer(vocab_size: int = 400) -> PreTrainedTokenizerFast:
    """BPE like Llama 2's: `▁` for a space, one put in front of the text, `<0x..>` for the rest."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE())
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.normalizer = spaces
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 259, show_progress=False)
    trained.train_from_iterator(TEXT[:2] * 4, trainer)
    pieces = trained.get_vocab()
    ordered = ["<unk>", "<s>", "</s>", *byte_tokens, *sorted(pieces, key=lambda p: pieces[p])]
    vocab = {piece: index for index, piece in enumerate(ordered)}
    merges = [tuple(merge) for merge in _merges(trained)]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    return json.loads(tokenizer.to_str())["model"]["merges"]


def model_config(kind: ModelKind, vocab_size: int) -> PreTrainedConfig:
    """A configuration of d_model 32, 3 layers, 4 heads (2 for keys and values where they differ)."""
    common: dict[str, Any] = {
        "vocab_size": vocab_size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        "initializer_range": 0.3,
    }  # fmt: skip
    if kind == "gpt2":
        return GPT2Config(
            n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS, n_inner=D_MLP, n_positions=CONTEXT,
            **common,
        )  # fmt: skip
    common |= {
        "hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS, "num_attention_heads": N_HEADS,
        "intermediate_size": D_MLP, "max_position_embeddings": CONTEXT,
    }  # fmt: skip
    if kind == "neox":
        return GPTNeoXConfig(**common)
    if kind == "falcon":
        return FalconConfig(ffn_hidden_size=D_MLP, **common)
    if kind == "opt":
        return OPTConfig(ffn_dim=D_MLP, word_embed_proj_dim=D_MODEL, init_std=0.3, **common)
    common["num_key_value_heads"] = 2
    if kind == "gemma2":
        return Gemma2Config(head_dim=8, sliding_window=16, **common)
    if kind == "gemma3":
        return Gemma3TextConfig(head_dim=8, sliding_window=16, **common)
    if kind == "mixtral":
        return MixtralConfig(num_local_experts=4, **common)
    return LlamaConfig(**common) if kind == "llama" else Qwen2Config(**common)


def save_model(
    folder: Path,
    kind: ModelKind = "gpt2",
    *,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Path:
    """Write a random model of an architecture, with its tokenizer, as a Hugging Face folder."""
    tokenizer = tokenizer or bpe_tokenizer()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(model_config(kind, len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_sae(
    folder: Path,
    architecture: str = "topk",
    *,
    hook_name: str = "blocks.1.hook_resid_post",
    d_in: int = D_MODEL,
    d_sae: int = 96,
    k: int = 6,
    seed: int = 0,
    planted: torch.Tensor | None = None,
    metadata: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write a random SAE as a SAELens folder; `config` overrides fields of its cfg.json.

    Decoder rows have lengths between 0.2 and 2. With `planted` (a unit vector of d_in) feature 0
    reads and writes exactly that direction, without bias, and no other feature reads it.
    `batchtopk` is trained for one step and saved by SAELens, as a JumpReLU SAE.
    """
    config = {
        "architecture": architecture, "d_in": d_in, "d_sae": d_sae,
        "metadata": {"hook_name": hook_name, "model_name": "tiny", "prepend_bos": True,
                     "context_size": CONTEXT, **(metadata or {})},
        **config,
    }  # fmt: skip
    torch.manual_seed(seed)
    if architecture == "batchtopk":
        _batch_topk(config, k).save_inference_model(folder)
        return folder
    if architecture.endswith("topk"):
        config["k"] = k
    sae = SAE.from_dict(config)
    _randomise(sae)
    if planted is not None:
        _plant(sae, planted)
    sae.save_model(folder)
    return folder


def _batch_topk(config: dict[str, Any], k: int) -> BatchTopKTrainingSAE:
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig.from_dict({**config, "k": k}))
    _randomise(sae)
    sae.topk_threshold.fill_(0.7)
    return sae


@torch.no_grad()
def _randomise(sae: SAE) -> None:
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn_like(sae.W_dec), dim=-1)
    if sae.W_dec.shape[::-1] == sae.W_enc.shape:
        sae.W_enc.data = sae.W_dec.data.T.contiguous() * 1.5
    sae.W_dec.data *= torch.empty(len(sae.W_dec), 1).uniform_(0.2, 2.0)
    for name, parameter in sae.named_parameters():
        if name.startswith("b_") or name in ("r_mag", "W_skip"):
            parameter.data.normal_(std=0.1)
        if name == "threshold":
            parameter.data.uniform_(0.0, 0.6)


@torch.no_grad()
def _plant(sae: SAE, direction: torch.Tensor) -> None:
    projector = torch.eye(len(direction)) - torch.outer(direction, direction)
    sae.W_enc.data = projector @ sae.W_enc
    sae.W_enc.data[:, 0] = direction / sae.W_dec[0].norm()
    sae.W_dec.data[0] = direction * sae.W_dec[0].norm()
    for name, parameter in sae.named_parameters():
        if name in ("b_enc", "b_gate", "b_mag", "r_mag"):
            parameter.data[0] = 0
    sae.b_dec.data = sae.b_dec @ projector
