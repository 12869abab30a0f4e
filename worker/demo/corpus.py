"""The demo corpus: storyworld text that the model was not trained on, as JSON lines."""

import json
from pathlib import Path

from worker.demo.generator import CORPUS_START, documents

SAE_DOCUMENTS = 20_000
"""Enough text to train an SAE on: about two million tokens."""
EVIDENCE_DOCUMENTS = 6_000
"""Enough text for every feature's page: about half a million tokens."""


def write_corpus(path: Path, seed: int, count: int) -> None:
    """Write `count` documents of `seed` to `path`, one {"text": ...} a line; the same bytes always.

    The file appears under its name only when it is complete.
    """
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents(seed, CORPUS_START, count):
            file.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
    unfinished.replace(path)
