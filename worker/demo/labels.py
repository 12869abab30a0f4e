"""Which concepts hold of which tokens, for any tokenizer that reports character offsets."""

import numpy as np
from jaxtyping import Bool

from worker.demo.concepts import COLUMN_OF, CONCEPTS
from worker.demo.scribe import WORD, Document

Offsets = list[tuple[int, int]]


def membership(document: Document, offsets: Offsets) -> Bool[np.ndarray, "tokens concepts"]:
    """Mark a token with a concept when it shares a visible character with one of its spans.

    `offsets` are characters [start, end) per token, as tokenizers give them; a token without
    characters, such as a BOS, has (k, k) and no concept. Columns are in the order of `CONCEPTS`.
    """
    marks = np.zeros((len(document.text), len(CONCEPTS)), dtype=bool)
    for start, end, concepts in document.spans:
        marks[start:end, [COLUMN_OF[name] for name in concepts]] = True
    table = np.zeros((len(offsets), len(CONCEPTS)), dtype=bool)
    for row, (start, end) in enumerate(offsets):
        marks[start:end].any(axis=0, out=table[row])
    return table


def in_question(document: Document, offsets: Offsets) -> Bool[np.ndarray, "tokens concepts"]:
    """The tokens on which each concept can be judged: all, or those that show a carrier of it.

    Elsewhere in its region such a concept is neither claimed nor denied, so a measure of how
    well something tells the concept leaves those tokens out.
    """
    table = np.ones((len(offsets), len(CONCEPTS)), dtype=bool)
    for carriers in {c.carriers for c in CONCEPTS if c.carriers is not None}:
        marks = np.zeros(len(document.text), dtype=bool)
        for match in WORD.finditer(document.text):
            marks[match.start() : match.end()] = match.group() in carriers
        columns = [column for column, c in enumerate(CONCEPTS) if c.carriers == carriers]
        for row, (start, end) in enumerate(offsets):
            table[row, columns] = marks[start:end].any()
    return table
