"""Token strings of a source, each with a number."""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from worker.neuronpedia.values import Refused

MOST = 2**20
"""Different strings of one source; tokenizers have a quarter of that."""
LONGEST = 1_024
"""Characters of a token."""
MOST_CHARACTERS = 2**26
"""Of all of them together: they are in memory at once, where they are served too."""


class Strings:
    """Numbers of strings: each new one gets the next."""

    def __init__(self, known: list[str]) -> None:
        self._numbers = {string: number for number, string in enumerate(known)}
        self._told = len(known)
        self._characters = sum(map(len, known))

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, tokens: Sequence[str]) -> np.ndarray:
        """int32 [tokens], of strings that were added."""
        return np.array([*map(self._numbers.__getitem__, tokens)], np.int32)

    def add(self, tokens: Sequence[str]) -> None:
        """Number those that are new. Raises Refused when one is too long or they are too many."""
        numbers = self._numbers
        for token in [token for token in tokens if token not in numbers]:
            if len(token) > LONGEST:
                raise Refused(f"it holds a token of over {LONGEST:,} characters")
            if token not in numbers:
                numbers[token] = len(numbers)
                self._characters += len(token)
        if len(numbers) > MOST or self._characters > MOST_CHARACTERS:
            raise Refused(
                f"with this row there are {len(numbers):,} different token strings, "
                f"{self._characters:,} characters in all; at most {MOST:,} strings and "
                f"{MOST_CHARACTERS:,} characters of a source are taken"
            )

    def new(self) -> list[tuple[int, str]]:
        """Numbers and strings since it was last asked."""
        some = [(at, string) for string, at in islice(self._numbers.items(), self._told, None)]
        self._told = len(self._numbers)
        return some
