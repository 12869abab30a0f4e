"""The states of recent texts at the hook points that were read, so that who explores one text with
many SAEs or features waits for the model only once."""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from jaxtyping import Float

CACHE_BYTES = 2**27
"""Of one model."""

Text = tuple[int, ...]
State = Float[torch.Tensor, "_ _"]
"""Activations by token, of one text at one hook point."""


class ResidualCache:
    """States by text and hook point; those that were not used for longest go first."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most, self.n_bytes = most_bytes, 0
        self._states: OrderedDict[tuple[Text, str], State] = OrderedDict()

    def get(self, text: Text, hooks: Iterable[str]) -> dict[str, State] | None:
        """The states of a text at some hook points, if all are there."""
        found: dict[str, State] = {}
        for hook in hooks:
            state = self._states.get((text, hook))
            if state is None:
                return None
            self._states.move_to_end((text, hook))
            found[hook] = state
        return found

    def put(self, text: Text, hook: str, state: State) -> None:
        """Keep a state, which nobody changes any more."""
        self._drop((text, hook))
        self._states[text, hook] = state
        self.n_bytes += state.nbytes
        while self.n_bytes > self._most:
            self._drop(next(iter(self._states)))

    def _drop(self, key: tuple[Text, str]) -> None:
        state = self._states.pop(key, None)
        self.n_bytes -= 0 if state is None else state.nbytes
