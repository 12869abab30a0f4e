"""Token strings of a source, each with a number."""

from collections.abc import Sequence

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
        self._known = list(known)
        self._numbers = {string: number for number, string in enumerate(known)}
        self._told = len(known)
        self._characters = sum(map(len, known))

    def __len__(self) -> int:
        return len(self._numbers)

    def __call__(self, tokens: Sequence[str]) -> np.ndarray:
        """int32 [tokens], of strings that were added. Raises KeyError for others."""
        return np.fromiter(map(self._numbers.__getitem__, tokens), np.int32, len(tokens))

    def __getitem__(self, number: int) -> str:
        return self._known[number]

    def add(self, tokens: Sequence[str]) -> np.ndarray:
        """int32 [tokens]; those that are new get the next numbers. Raises Refused when one is too
        long or they are too many."""
        try:
            return self(tokens)
        except KeyError:
            self._number(tokens)
            return self(tokens)

    def _number(self, tokens: Sequence[str]) -> None:
        numbers = self._numbers
        for token in tokens:
            if token not in numbers:
                if len(token) > LONGEST:
                    raise Refused(f"it holds a token of over {LONGEST:,} characters")
                numbers[token] = len(numbers)
                self._known.append(token)
                self._characters += len(token)
        if len(numbers) > MOST or self._characters > MOST_CHARACTERS:
            raise Refused(
                f"with this row there are {len(numbers):,} different token strings, "
                f"{self._characters:,} characters in all; at most {MOST:,} strings and "
                f"{MOST_CHARACTERS:,} characters of a source are taken"
            )

    def new(self) -> list[tuple[int, str]]:
        """Numbers and strings since it was last asked."""
        some = [*enumerate(self._known[self._told :], self._told)]
        self._told = len(self._known)
        return some
