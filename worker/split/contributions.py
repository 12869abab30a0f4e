"""What every feature adds to a neuron at its peaks: one forward over the texts that hold them, each as
far as its last peak."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from worker.activations import capture, not_finite
from worker.models import LanguageModel
from worker.precompute.examples import spans
from worker.saes import Dictionary
from worker.split.peaks import Peaks
from worker.streams import to_device
from worker.tokens import Batch, Sequences, batches

_SEQUENCES = 4_096
"""Texts in memory at a time."""
_POSITION_BITS = 32

OnBatch = Callable[[int, int], None]
"""Told how many tokens of how many were run through the model."""


class Parts(NamedTuple):
    """What neurons are made of at P peaks: about P times L0 contributions."""

    value: Float[np.ndarray, " peaks"]
    """The neuron's activation."""
    offset: Float[np.ndarray, " peaks"]
    """What the reconstruction holds besides the features' contributions."""
    peak: Int[np.ndarray, " parts"]
    """Of which peak."""
    feature: Int[np.ndarray, " parts"]
    weight: Float[np.ndarray, " parts"]
    """The neuron's entry of the feature's unit decoder row."""
    contribution: Float[np.ndarray, " parts"]
    """Activation times weight."""


@torch.inference_mode()
def take_apart(
    model: LanguageModel,
    dictionary: Dictionary,
    sequences: Sequences,
    peaks: Peaks,
    batch_tokens: int,
    on_batch: OnBatch,
) -> Parts:
    """The contributions of a dictionary that writes where it reads. Raises `Invalid` when the
    model's activations are not finite."""
    tokens, token = np.unique(
        peaks.sequence << _POSITION_BITS | peaks.position, return_inverse=True
    )
    by_token = np.argsort(token, kind="stable")
    bounds = torch.from_numpy(np.searchsorted(token[by_token], np.arange(len(tokens) + 1)))
    value, offset = np.zeros((2, len(token)))
    none = np.zeros(0)
    found: list[tuple[np.ndarray, ...]] = [(none.astype(int), none.astype(int), none, none)]
    for at, x in _vectors(model, dictionary.hook_name, sequences, tokens, batch_tokens, on_batch):
        of, number = spans(bounds[at], bounds[at + 1])
        some = by_token[number.numpy()]
        of, neuron = (
            to_device(one, x.device) for one in (of, torch.from_numpy(peaks.neuron[some]))
        )
        value[some] = x[of, neuron].cpu().numpy()
        offset[some] = dictionary.offset(x).expand(len(x), -1)[of, neuron].cpu().numpy()
        peak, *rest = _contributions(dictionary, x, of, neuron)
        found.append((some[peak], *rest))
    return Parts(value, offset, *(np.concatenate(column) for column in zip(*found, strict=True)))


def _contributions(
    dictionary: Dictionary,
    x: Float[torch.Tensor, "tokens width"],
    of: Int[torch.Tensor, " peaks"],
    neuron: Int[torch.Tensor, " peaks"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Peak, feature, weight and contribution of every feature that is active at a peak, whose token
    is `of`."""
    assert dictionary.decoder.rows is not None
    active = dictionary.encode_sparse(x)
    count = torch.bincount(active.token, minlength=len(x))
    stop = count.cumsum(0)
    peak, entry = spans((stop - count)[of], stop[of])
    feature = active.feature[entry]
    weight = dictionary.decoder.rows[feature, neuron[peak]].double()
    columns = (peak, feature, weight, active.value[entry] * weight)
    peak, feature, weight, contribution = (column.cpu().numpy() for column in columns)
    return peak, feature.astype(np.int64), weight, contribution


def _vectors(
    model: LanguageModel,
    hook_name: str,
    sequences: Sequences,
    tokens: Int[np.ndarray, " tokens"],
    batch_tokens: int,
    on_batch: OnBatch,
) -> Iterator[tuple[Int[torch.Tensor, " n"], Float[torch.Tensor, "n width"]]]:
    """Numbers of some of the ascending `tokens` (sequence << bits | position), and their float32
    activations."""
    sequence, position = tokens >> _POSITION_BITS, tokens & (2**_POSITION_BITS - 1)
    numbers, first = np.unique(sequence, return_index=True)
    stop = np.searchsorted(sequence, numbers, side="right")
    lengths = position[stop - 1] + 1
    done, total = 0, int(lengths.sum())
    for low in range(0, len(numbers), _SEQUENCES):
        some = slice(low, low + _SEQUENCES)
        for batch in batches(_beginnings(sequences, numbers[some], lengths[some]), batch_tokens):
            rows = low + batch.rows
            row, at = spans(torch.from_numpy(first[rows]), torch.from_numpy(stop[rows]))
            yield at, _at(model, hook_name, batch, row, torch.from_numpy(position)[at])
            done += int(lengths[rows].sum())
            on_batch(done, total)


def _at(
    model: LanguageModel,
    hook_name: str,
    batch: Batch,
    row: Int[torch.Tensor, " n"],
    position: Int[torch.Tensor, " n"],
) -> Float[torch.Tensor, "n width"]:
    states = capture(model, batch.ids, [hook_name])[hook_name]
    x = states[to_device(row, states.device), to_device(position, states.device)].float()
    if not x.isfinite().all():
        raise not_finite(model, hook_name)
    return x


def _beginnings(
    sequences: Sequences, numbers: Int[np.ndarray, " n"], lengths: Int[np.ndarray, " n"]
) -> Sequences:
    """The first `lengths` tokens of some sequences."""
    begin = torch.from_numpy(sequences.offsets[numbers])
    _, place = spans(begin, begin + torch.from_numpy(lengths))
    return Sequences(sequences.flat[place.numpy()], np.append(0, np.cumsum(lengths)))
