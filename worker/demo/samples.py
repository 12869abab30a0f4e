"""Samples of every genre, and whether they go on in the genre that they began in."""

import re
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from transformers import LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Tokenizer

from worker.demo.generator import GENRES, HELD_OUT_START, document_of
from worker.demo.genre_classifier import GenreClassifier
from worker.demo.text_tokens import token_ids
from worker.demo.words import BOYS, GIRLS

PROMPT_TOKENS = 10


class Sample(NamedTuple):
    """One continuation, and the genre that its prompt is from."""

    genre: str
    prompt: str
    continuation: str


def draw_samples(
    model: LlamaForCausalLM, tokenizer: Tokenizer, seed: int, per_genre: int, temperature: float
) -> list[Sample]:
    """Continue the first `PROMPT_TOKENS` tokens of unseen documents, up to the next BOS."""
    genres = [genre for genre in GENRES for _ in range(per_genre)]
    unseen = [document_of(genre, seed, HELD_OUT_START + i) for i, genre in enumerate(genres)]
    prompts = [ids[: PROMPT_TOKENS + 1] for ids in token_ids(tokenizer, unseen)]
    rests = _continue(model, prompts, seed, temperature)
    return [
        Sample(genre, *_decode(tokenizer, prompt[1:], rest))
        for genre, prompt, rest in zip(genres, prompts, rests, strict=True)
    ]


def _continue(
    model: LlamaForCausalLM, prompts: list[list[int]], seed: int, temperature: float
) -> list[list[int]]:
    """Sample up to the next BOS after each of the equally long prompts."""
    bos, given = model.config.bos_token_id, torch.tensor(prompts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # transformers types generate() for a protocol that its own models do not match.
        drawn = cast(Any, model).generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=100,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            pad_token_id=bos,
        )
    rests = drawn[:, given.shape[1] :].tolist()
    return [rest[: rest.index(bos)] if bos in rest else rest for rest in rests]


def _decode(tokenizer: Tokenizer, *sequences: list[int]) -> list[str]:
    return ["".join(tokenizer.decode(ids)) for ids in sequences]


def genre_consistency(samples: list[Sample], seed: int) -> dict[str, float]:
    """Per genre, the share of its samples that go on in it."""
    classifier = GenreClassifier(seed)
    return {
        genre: float(np.mean([classifier(s.continuation) == genre for s in own]))
        for genre in GENRES
        if (own := [s for s in samples if s.genre == genre])
    }


def mean_cast(samples: list[Sample]) -> float:
    """How many people a sampled story or script names, on average; the generator names two.

    A model that cannot carry a name through a text invents new ones.
    """
    names = {*GIRLS, *BOYS}
    texts = [s.prompt + s.continuation for s in samples if s.genre in ("story", "script")]
    return float(np.mean([len(names.intersection(re.findall(r"\w+", text))) for text in texts]))
