"""The documents of storyworld: document `index` of a seed is a function of the two alone."""

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random

from worker.demo.facts import news, recipe, sums
from worker.demo.french import french
from worker.demo.programs import code
from worker.demo.scribe import Document
from worker.demo.scripts import script
from worker.demo.stories import letter, story

GENRES: dict[str, tuple[Callable[[Random], Document], float]] = {
    "story": (story, 0.36),
    "letter": (letter, 0.12),
    "script": (script, 0.12),
    "news": (news, 0.11),
    "recipe": (recipe, 0.09),
    "sums": (sums, 0.07),
    "french": (french, 0.07),
    "code": (code, 0.06),
}
"""Each genre's writer and its share of the documents."""

TRAIN_START = 0
HELD_OUT_START = 1 << 40
CORPUS_START = 1 << 41
"""First indices of the documents for training, for measuring the loss, and of the demo corpus."""

_WRITERS = [writer for writer, _ in GENRES.values()]
_UP_TO = list(accumulate(share for _, share in GENRES.values()))


def document(seed: int, index: int) -> Document:
    """Document `index` (>= 0) of `seed` (>= 0)."""
    rng = Random((seed << 64) | index)
    return _WRITERS[min(bisect(_UP_TO, rng.random()), len(_WRITERS) - 1)](rng)


def document_of(genre: str, seed: int, index: int) -> Document:
    """Document `index` of `seed` if all were of one genre."""
    return GENRES[genre][0](Random((seed << 64) | index))


def documents(seed: int, start: int, count: int) -> Iterator[Document]:
    """Documents `start` to `start + count` (exclusive) of `seed`."""
    return (document(seed, index) for index in range(start, start + count))
