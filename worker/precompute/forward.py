"""From a batch of tokens to the entries of every dictionary: one forward, sparse at once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int

from app.errors import Invalid
from worker.activations import capture, not_finite
from worker.models import LanguageModel
from worker.saes import Dictionary
from worker.streams import to_device
from worker.tokens import Batch

_BLOCK = {"cpu": 2**24, "cuda": 2**26}
"""Activations, zeros counted, of the tokens that are encoded at a time: bounds dense sources. By kind
of device."""


class Entries(NamedTuple):
    """Some active (feature, place, value) of one dictionary, tokens in the order of the batch."""

    feature: Int[torch.Tensor, " entries"]
    place: Int[torch.Tensor, " entries"]
    """int32: sequence << position bits | position."""
    value: Float[torch.Tensor, " entries"]
    """Above 0, folded units."""


class Encoded(NamedTuple):
    """What a block of tokens gives to one dictionary."""

    dictionary: Dictionary
    entries: Entries
    minimum: Float[torch.Tensor, " features"] | None
    """Most negative value of each feature, 0 without one; only for signed dictionaries."""


class Forward:
    """Model and dictionaries, run together."""

    def __init__(self, model: LanguageModel, dictionaries: Sequence[Dictionary]) -> None:
        self._model, self._dictionaries = model, dictionaries
        self._block = _BLOCK.get(model.device.type, _BLOCK["cpu"])
        self._hooks = sorted({dictionary.hook_name for dictionary in dictionaries})
        self._special = torch.from_numpy(model.is_special)

    def counted(self, batch: Batch) -> Bool[torch.Tensor, "batch seq"]:
        """Positions that count: neither padding nor special tokens."""
        return batch.mask & ~self._special[batch.ids]

    def activations(self, batch: Batch) -> dict[str, Float[torch.Tensor, "tokens _"]]:
        """float32 activations at every hook point read, one row for each counted token.

        Raises:
            Invalid: some of them are not finite.
        """
        captured = capture(self._model, batch.ids, self._hooks)
        rows = to_device(self.counted(batch).flatten().nonzero().squeeze(1), self._model.device)
        found = {}
        for hook in self._hooks:
            found[hook] = captured[hook].flatten(0, 1).index_select(0, rows).float()
            if not found[hook].isfinite().all():
                raise not_finite(self._model, hook)
        return found

    def encode(self, batch: Batch, first: int, bits: int) -> Iterator[Encoded]:
        """Entries of every dictionary in blocks of tokens; sequences are counted from `first`."""
        activations = self.activations(batch)
        places = to_device(self._places(batch, first, bits), self._model.device)
        for dictionary in self._dictionaries:
            size = max(1, self._block // dictionary.d_sae)
            blocks = activations[dictionary.hook_name].split(size)
            for x, place in zip(blocks, places.split(size), strict=True):
                yield _encode(dictionary, x, place)

    def _places(self, batch: Batch, first: int, bits: int) -> Int[torch.Tensor, " tokens"]:
        row, position = self.counted(batch).nonzero(as_tuple=True)
        sequence = torch.from_numpy(batch.rows)[row] - first
        return ((sequence << bits) | position).int()


def _encode(
    dictionary: Dictionary, x: Float[torch.Tensor, "n d_in"], place: Int[torch.Tensor, " n"]
) -> Encoded:
    token, feature, value = dictionary.encode_sparse(x)
    if not value.isfinite().all():
        first = int(feature[~value.isfinite()][0])
        raise Invalid(
            f"Feature {first} of {dictionary.id} has an activation that is no finite number; its "
            "weights are too large for float32."
        )
    minimum = None
    if dictionary.signed:
        minimum = value.new_zeros(dictionary.d_sae).scatter_reduce_(0, feature, value, "amin")
        active = (value > 0).nonzero().squeeze(1)
        token, feature, value = (
            column.index_select(0, active) for column in (token, feature, value)
        )
    return Encoded(dictionary, Entries(feature, place.index_select(0, token), value), minimum)
