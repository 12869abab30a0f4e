"""Tells a text's genre by its words: multinomial naive Bayes on the generator's own documents."""

import re
from collections import Counter

import numpy as np
from jaxtyping import Float

from worker.demo.generator import GENRES, document_of

_MARK = re.compile(r"\w+|[^\w\s]|\n +|\n")
_DOCUMENTS = 300


class GenreClassifier:
    """Call it with a text; the genres count as equally likely beforehand."""

    def __init__(self, seed: int) -> None:
        self._genres = tuple(GENRES)
        counts = [self._count(genre, seed) for genre in self._genres]
        marks = sorted(set().union(*counts))
        self._row = {mark: row for row, mark in enumerate(marks)}
        table = np.array([[c[mark] + 0.1 for c in counts] for mark in marks])
        self._log: Float[np.ndarray, "marks genres"] = np.log(table / table.sum(axis=0))

    def __call__(self, text: str) -> str:
        """The likeliest genre of a text; words that no genre has say nothing."""
        rows = [self._row[mark] for mark in _MARK.findall(text) if mark in self._row]
        return self._genres[int(self._log[rows].sum(axis=0).argmax())]

    @staticmethod
    def _count(genre: str, seed: int) -> Counter[str]:
        texts = (document_of(genre, seed, index).text for index in range(_DOCUMENTS))
        return Counter(mark for text in texts for mark in _MARK.findall(text))
