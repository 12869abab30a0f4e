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

from transformers import LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Tokenizer

from worker.demo.concepts import CONCEPTS
from worker.demo.generator import HELD_OUT_START, TRAIN_START, documents
from worker.demo.loss import (
    SHIPPED,
    byte_ngram_nats_per_byte,
    load,
    model_nats_per_byte,
    token_ngram_nats_per_byte,
)
from worker.demo.probe import label_tokens, probe_f1, residuals, token_rule_f1
from worker.demo.samples import PROMPT_TOKENS, Sample, draw_samples, genre_consistency, mean_cast
from worker.demo.scribe import Document


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
        (
            f"A sampled story or script names {mean_cast(samples):.2f} people on average; the "
            "generator's name two.\n"
        ),
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
    model: LlamaForCausalLM, tokenizer: Tokenizer, held_out: list[Document]
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
        "A small Llama-style language model on text that saescope's own generator writes, so that the "
        "concepts of every token are known. Licence: MIT, as the project.\n\n"
        f"{training['parameters']:,} weights, {config['num_hidden_layers']} layers of {config['hidden_size']}, "
        f"{config['vocab_size']:,} tokens, context {config['max_position_embeddings']}. The tokenizer adds no "
        "BOS; every text was trained on after one.\n\n"
        f"Made by `python -m worker.demo.train_model --out DIR --seed {training['seed']} --steps "
        f"{training['steps']} --threads {training['threads']}`, which reproduces the weights bit "
        f"for bit on the same machine (torch {training['torch']}). Measured by `python -m "
        "worker.demo.evaluate_model`.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a storyworld model.")
    parser.add_argument("--model", type=Path, default=SHIPPED)
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
