"""Which concepts hold of which tokens, for any tokenizer that reports character offsets."""

import numpy as np
from jaxtyping import Bool

from worker.demo.concepts import COLUMN_OF, CONCEPTS
from worker.demo.scribe import Document

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
