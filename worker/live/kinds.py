"""What can be read of a text's states at a hook point: features of an SAE, whole or the strongest of
each token; how far the states go along a vector; the state of the last token.

Readings of the same group are computed together, from the states of all their texts at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from worker.live.strongest import Strongest, strongest
from worker.saes import Dictionary

Values = Strongest | Float[np.ndarray, "..."]
"""Strongest features per token, or numbers."""


class Reading(ABC):
    """What is wanted of the states at one hook point."""

    name: str
    """Under which its values are told."""

    @property
    @abstractmethod
    def hook(self) -> str:
        """Where it reads."""

    @property
    @abstractmethod
    def group(self) -> Hashable:
        """Of readings that are computed together."""

    @classmethod
    @abstractmethod
    def read(
        cls, readings: Sequence[Any], x: Float[torch.Tensor, "t w"], starts: list[int]
    ) -> Iterable[Values]:
        """Values for each of a group, from the states of their texts end to end: those of the i-th
        are rows `starts[i]` to `starts[i + 1]`."""


@dataclass(frozen=True, eq=False)
class OfSae(Reading):
    """What is wanted of one SAE."""

    name: str
    dictionary: Dictionary
    features: tuple[int, ...] | None
    """Features wanted at every token; None for the strongest of each token."""
    top_k: int

    @property
    def hook(self) -> str:
        return self.dictionary.hook_name

    @property
    def group(self) -> Hashable:
        return self.dictionary, self.features is None

    @classmethod
    def read(
        cls, readings: Sequence["OfSae"], x: Float[torch.Tensor, "t w"], starts: list[int]
    ) -> Iterable[Values]:
        whole = readings[0].features is not None
        return (_columns if whole else _top)(readings, x.float(), starts)


@dataclass(frozen=True, eq=False)
class OfVector(Reading):
    """The dot product of every state with a vector."""

    name: str
    at: str
    """The hook point."""
    vector: Float[torch.Tensor, " w"]

    @property
    def hook(self) -> str:
        return self.at

    @property
    def group(self) -> Hashable:
        return OfVector, self.at

    @classmethod
    def read(
        cls, readings: Sequence["OfVector"], x: Float[torch.Tensor, "t w"], starts: list[int]
    ) -> Iterable[Float[np.ndarray, " t"]]:
        for i, reading in enumerate(readings):
            own = x[starts[i] : starts[i + 1]].float()
            yield (own @ reading.vector).cpu().numpy()


@dataclass(frozen=True, eq=False)
class LastState(Reading):
    """The state of a text's last token."""

    name: str
    """The hook point."""

    @property
    def hook(self) -> str:
        return self.name

    @property
    def group(self) -> Hashable:
        return LastState, self.name

    @classmethod
    def read(
        cls, readings: Sequence["LastState"], x: Float[torch.Tensor, "t w"], starts: list[int]
    ) -> Iterable[Float[np.ndarray, " w"]]:
        last = torch.tensor(starts[1:], device=x.device) - 1
        yield from x[last].float().cpu().numpy()


def _columns(
    readings: Sequence[OfSae], x: Float[torch.Tensor, "t w"], starts: list[int]
) -> Iterable[Float[np.ndarray, "_ _"]]:
    features = sorted({feature for reading in readings for feature in reading.features or ()})
    index = torch.tensor(features, dtype=torch.long, device=x.device)
    values = readings[0].dictionary.encode_columns(x, index).cpu().numpy()
    for i, reading in enumerate(readings):
        own = np.searchsorted(features, reading.features or ())
        yield values[starts[i] : starts[i + 1]][:, own]


def _top(
    readings: Sequence[OfSae], x: Float[torch.Tensor, "t w"], starts: list[int]
) -> Iterable[Strongest]:
    top_k = max(reading.top_k for reading in readings)
    found = strongest(readings[0].dictionary, x, top_k)
    for i, reading in enumerate(readings):
        yield found.part(starts[i], starts[i + 1], reading.top_k)
