"""Measures a storyworld model, and writes the model card with what it found.

- Loss on held-out documents in nats a byte, the model beside the better of two 5-gram peers
  (over bytes, over the model's own tokens) that saw the same documents.
- Samples of every genre from the first tokens of held-out documents, and how often a classifier
  takes the continuation for the genre that it began in.
- Per concept: the best rule over the token alone beside a linear probe of the middle layer.

    python -m worker.demo.evaluate_model --model DIR [--card]
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from worker.demo.concepts import CONCEPTS
from worker.demo.generator import GENRES, HELD_OUT_START, TRAIN_START, document_of, documents
from worker.demo.genre_classifier import GenreClassifier
from worker.demo.ngram import NGram
from worker.demo.probe import label_tokens, probe_f1, residuals, token_rule_f1
from worker.demo.scribe import Document
from worker.demo.text_tokens import token_ids

_BYTE_BOS = 256
PROMPT_TOKENS = 10


class Sample(NamedTuple):
    """One continuation, and the genre that its prompt is from."""

    genre: str
    prompt: str
    continuation: str


def load(path: Path) -> tuple[PreTrainedModel, Tokenizer]:
    """A model directory, ready for measuring."""
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True).eval()
    return model, AutoTokenizer.from_pretrained(path, local_files_only=True)


@torch.inference_mode()
def model_nats_per_byte(
    model: PreTrainedModel, tokenizer: Tokenizer, held_out: list[Document]
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


def draw_samples(
    model: PreTrainedModel, tokenizer: Tokenizer, seed: int, per_genre: int, temperature: float
) -> list[Sample]:
    """Continue the first `PROMPT_TOKENS` tokens of unseen documents, up to the next BOS."""
    bos, samples = tokenizer.bos_token_id, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for genre in GENRES:
            unseen = [document_of(genre, seed, HELD_OUT_START + i) for i in range(per_genre)]
            prompts = [ids[: PROMPT_TOKENS + 1] for ids in token_ids(tokenizer, unseen)]
            drawn = model.generate(
                torch.tensor(prompts),
                attention_mask=torch.ones(len(prompts), PROMPT_TOKENS + 1, dtype=torch.long),
                max_new_tokens=100,
                do_sample=True,
                temperature=temperature,
                top_k=0,
            )
            for prompt, ids in zip(prompts, drawn.tolist(), strict=True):
                rest = ids[len(prompt) :]
                rest = rest[: rest.index(bos)] if bos in rest else rest
                samples.append(Sample(genre, tokenizer.decode(prompt[1:]), tokenizer.decode(rest)))
    return samples


def genre_consistency(samples: list[Sample], seed: int) -> dict[str, float]:
    """Per genre, the share of its samples that go on in it."""
    classifier = GenreClassifier(seed)
    return {
        genre: float(np.mean([classifier(s.continuation) == genre for s in own]))
        for genre in GENRES
        if (own := [s for s in samples if s.genre == genre])
    }


def report(path: Path, seed: int, training_documents: int, held_out_documents: int) -> str:
    """All the measurements, as the Markdown of the model card's second half."""
    model, tokenizer = load(path)
    training = list(documents(seed, TRAIN_START, training_documents))
    held_out = list(documents(seed, HELD_OUT_START, held_out_documents))
    own = model_nats_per_byte(model, tokenizer, held_out)
    by_token = token_ngram_nats_per_byte(tokenizer, training, held_out)
    by_byte = byte_ngram_nats_per_byte(training, held_out)
    peer = min(by_token, by_byte)
    samples = draw_samples(model, tokenizer, seed, per_genre=20, temperature=0.8)
    lines = [
        f"## Loss on {held_out_documents:,} held-out documents, nats a byte\n",
        "| model | nats a byte |\n|---|---|",
        f"| storyworld | {own:.4f} |",
        f"| 5-gram over its tokens, Kneser-Ney | {by_token:.4f} |",
        f"| 5-gram over bytes, Kneser-Ney | {by_byte:.4f} |",
        (
            f"\nRatio to the better peer, trained on the same {training_documents:,} documents: "
            f"{own / peer:.3f}.\n"
        ),
        f"## Samples (the first {PROMPT_TOKENS} tokens given, temperature 0.8)\n",
        *_sample_lines(samples, genre_consistency(samples, seed)),
        "## Concepts\n",
        (
            "F1 of the best rule over the token alone, and of a linear probe of the middle layer's "
            "residual stream.\n"
        ),
        *_concept_lines(model, tokenizer, held_out),
    ]
    return "\n".join(lines) + "\n"


def _sample_lines(samples: list[Sample], consistency: dict[str, float]) -> list[str]:
    lines = []
    for genre, share in consistency.items():
        first = next(s for s in samples if s.genre == genre)
        text = f"{first.prompt} ⟶{first.continuation}".replace("\n", "\n> ")
        lines.append(f"**{genre}** ({share:.0%} go on in the genre)\n\n> {text}\n")
    return lines


def _concept_lines(
    model: PreTrainedModel, tokenizer: Tokenizer, held_out: list[Document]
) -> list[str]:
    labelled = label_tokens(tokenizer, held_out)
    stream = residuals(model, tokenizer, held_out, model.config.num_hidden_layers // 2)
    rule, probe = token_rule_f1(labelled), probe_f1(stream, labelled)
    share = labelled.concepts.mean(axis=0)
    return [
        "| concept | kind | tokens | token rule | probe | |\n|---|---|---|---|---|---|",
        *(
            f"| {c.name} | {c.kind} | {share[i]:.2%} | {rule[i]:.2f} | {probe[i]:.2f} "
            f"| {c.description} |"
            for i, c in enumerate(CONCEPTS)
        ),
    ]


def card_head(path: Path) -> str:
    """The model card's first half, from the model's own files."""
    config = json.loads((path / "config.json").read_text())
    training = json.loads((path / "training.json").read_text())
    return (
        "---\nlicense: mit\nlanguage: [en, fr]\n---\n# storyworld\n\n"
        "A small language model on text that saescope's own generator writes, so that the "
        "concepts of every token are known. Licence: MIT, as the project.\n\n"
        f"{training['parameters']:,} weights, {config['n_layer']} layers of {config['n_embd']}, "
        f"{config['vocab_size']:,} tokens, context {config['n_positions']}. The tokenizer adds no "
        "BOS; every text was trained on after one.\n\n"
        f"Made by `python -m worker.demo.train_model --out DIR --seed {training['seed']} --steps "
        f"{training['steps']} --threads {training['threads']}`, which reproduces the weights bit "
        f"for bit on the same machine (torch {training['torch']}). Measured by `python -m "
        "worker.demo.evaluate_model`.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a storyworld model.")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "storyworld")
    parser.add_argument("--documents", type=int, default=1_500, help="held-out documents")
    parser.add_argument("--card", action="store_true", help="write the model card as well")
    options = parser.parse_args()
    training = json.loads((options.model / "training.json").read_text())
    found = report(options.model, training["seed"], training["documents"], options.documents)
    print(found)
    if options.card:
        (options.model / "README.md").write_text(card_head(options.model) + found, encoding="utf-8")


if __name__ == "__main__":
    main()
