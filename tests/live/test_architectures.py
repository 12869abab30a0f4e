"""Architectures beyond those that are steered at every site: rows of unlike lengths and prompts in
pieces, against plain forwards without a cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from transformers import AutoModelForCausalLM, PreTrainedConfig

from app.contract.live import MAX_LEN
from app.errors import Invalid
from tests.live.reference import NEAR
from tests.live.world import TEXTS, World, run
from tests.worker.tiny import CONTEXT, bpe_tokenizer
from worker.live.limits import row_limit

BASE: dict[str, Any] = {
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "initializer_range": 0.3,
}  # fmt: skip
COMMON = BASE | {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
GROUPED = COMMON | {"num_key_value_heads": 2}
LOCAL = ["sliding_attention", "sliding_attention", "full_attention"]
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2.0, 8.0],
}  # fmt: skip
CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "gpt_neo": lambda **v: hf.GPTNeoConfig(
        hidden_size=32, num_layers=4, num_heads=4, intermediate_size=48, window_size=40,
        max_position_embeddings=CONTEXT, attention_types=[[["global", "local"], 2]], **BASE, **v,
    ),
    "gptj": lambda **v: hf.GPTJConfig(
        n_embd=32, n_layer=3, n_head=4, n_inner=48, n_positions=CONTEXT, rotary_dim=4, **BASE, **v
    ),
    "mistral": lambda **v: hf.MistralConfig(sliding_window=8, head_dim=8, **GROUPED, **v),
    "phi3": lambda **v: hf.Phi3Config(
        original_max_position_embeddings=32, rope_parameters=LONGROPE, **GROUPED, **v
    ),
    "dynamic": lambda **v: hf.LlamaConfig(
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        **(GROUPED | {"max_position_embeddings": 32}), **v,
    ),
    "cohere2": lambda **v: hf.Cohere2Config(
        sliding_window=8, layer_types=LOCAL, **GROUPED, **v
    ),
    "falcon": lambda **v: hf.FalconConfig(ffn_hidden_size=48, **COMMON, **v),
    "bloom": lambda **v: hf.BloomConfig(hidden_size=32, n_layer=3, n_head=4, **BASE, **v),
}  # fmt: skip
LIMITS = {"gpt_neo": 40, "phi3": 32, "dynamic": 32}
"""Rows of these models must not become as long as the model reads."""
REQUESTS = [("x", 22), (TEXTS[0], 6), ("The", 17), (TEXTS[1], 12), ("def", 9)]


@pytest.fixture(params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny(kind: str, tmp_path: Path) -> World:
    tokenizer = bpe_tokenizer()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[kind](vocab_size=len(tokenizer))).save_pretrained(
        tmp_path / "m"
    )
    tokenizer.save_pretrained(tmp_path / "m")
    return World("tiny", tmp_path / "m", {})


@pytest.mark.parametrize("prefill_tokens", [1024, 8])
def test_a_crowd_equals_plain_forwards(tiny: World, kind: str, prefill_tokens: int) -> None:
    try:
        held = tiny.held(slots=4, prefill_tokens=prefill_tokens)
    except Invalid as refused:
        assert kind == "bloom" and "cannot generate in a batch here" in refused.detail
        return
    generations = [tiny.generation(held, text, max_new_tokens=new) for text, new in REQUESTS]
    for generation in generations:
        generation.answers[0].eos_ids = frozenset()
    run(held, *generations)
    assert held.engine._forward._sharing.allowed
    for generation in generations:
        assert generation.problem is None
        check(tiny, generation.answers[0].prompt, generation.answers[0].tokens)


@torch.inference_mode()
def check(tiny: World, prompt: list[int], tokens: list[int]) -> None:
    """Every token is the likeliest one, as far as rounding decides."""
    logits = tiny.model.hf(torch.tensor([prompt + tokens]), use_cache=False).logits[0]
    predicted = logits[len(prompt) - 1 : -1]
    chosen = predicted.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert bool((predicted.amax(1) - chosen <= NEAR).all())


def test_rows_stay_below_what_changes_with_the_batch(tiny: World, kind: str) -> None:
    assert row_limit(tiny.model) == LIMITS.get(kind, min(tiny.model.context_size, MAX_LEN))
