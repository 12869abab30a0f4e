"""Encoders: from an SAE's prepared input to the lengths of its features' contributions.

The folded activation of a feature is v = s a, where a is SAELens' activation and s the length of
its decoder row. Three architectures are one threshold unit in these units,

    v = x W' + b'  where that is above t', else 0,       W' = s W_enc exp(r), b' = s b

    standard    b = b_enc    r = 0        t' = 0
    jumprelu    b = b_enc    r = 0        t' = s max(0, threshold)
    gated       b = b_mag    r = r_mag    t' = s max(0, b_mag - exp(r_mag) b_gate)

(the gated unit is open where x W_enc + b_gate > 0, that is where v is above the last line). TopK
ranks what SAELens ranks, unfolded, and scales the values of the winners.

Dense results fill a buffer that the caller may give. Sparse results never pass through a dense
one for TopK; for threshold units they come from index lists of a comparison, in blocks of tokens
whose buffer is bounded.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE

from worker.scratch import scratch

_BLOCK_ELEMENTS = {"cpu": 2**24, "cuda": 2**28}
"""Numbers in the dense buffer of one block of tokens, by kind of device."""


class Sparse(NamedTuple):
    """Active features, sorted by token and within a token by feature."""

    token: Int[torch.Tensor, " active"]
    """Row of the input."""
    feature: Int[torch.Tensor, " active"]
    value: Float[torch.Tensor, " active"]


@runtime_checkable
class Encoder(Protocol):
    """From prepared inputs (float32, normalised, b_dec subtracted) to folded activations."""

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        """All activations, in `out` when it is given."""
        ...

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        """Those that are not zero."""
        ...

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        """`dense(x)[:, features]`."""
        ...

    @property
    def weight(self) -> Float[torch.Tensor, "d_in d_sae"] | None:
        """By column, the direction that a feature reads, of any length; None where features are
        the input's own numbers (neurons) or read no one direction (matching pursuit)."""
        ...

    def column(self, feature: int) -> Float[torch.Tensor, " d_in"] | None:
        """A column of `weight`, as long as it is in folded units."""
        ...


class _Linear:
    """x W + b, whole or in blocks of tokens in the thread's scratch memory, so bounded."""

    def __init__(
        self, weight: Float[torch.Tensor, "d_in d_sae"], bias: Float[torch.Tensor, " d_sae"]
    ) -> None:
        self.weight, self.bias = weight, bias
        limit = _BLOCK_ELEMENTS.get(weight.device.type, 2**24)
        self._rows = max(1, limit // weight.shape[1])

    def whole(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        return torch.addmm(self.bias, x, self.weight, out=out)

    def blocks(
        self, x: Float[torch.Tensor, "n d_in"]
    ) -> Iterator[tuple[int, Float[torch.Tensor, "rows d_sae"]]]:
        """The first token of each block, and its result, which the next block overwrites, of
        this encoder or of any other of the thread."""
        for start in range(0, max(1, len(x)), self._rows):
            block = x[start : start + self._rows]
            shape = (len(block), self.weight.shape[1])
            yield start, self.whole(block, scratch.take(shape, x.device, torch.float32))


class ThresholdEncoder:
    """standard, jumprelu and gated."""

    def __init__(
        self,
        weight: Float[torch.Tensor, "d_in d_sae"],
        bias: Float[torch.Tensor, " d_sae"],
        threshold: Float[torch.Tensor, " d_sae"] | None,
    ) -> None:
        """W', b' and t' of the module's formula; no threshold is a ReLU."""
        self._linear, self._threshold = _Linear(weight, bias), threshold
        self._limit = torch.zeros((), device=weight.device) if threshold is None else threshold

    @property
    def weight(self) -> Float[torch.Tensor, "d_in d_sae"]:
        return self._linear.weight

    def column(self, feature: int) -> Float[torch.Tensor, " d_in"]:
        return self._linear.weight[:, feature]

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        return _cut(self._linear.whole(x, out), self._threshold)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        weight, bias = self._linear.weight[:, features], self._linear.bias[features]
        threshold = None if self._threshold is None else self._threshold[features]
        return _cut(torch.addmm(bias, x, weight), threshold)

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        return _join((start, self._above(v)) for start, v in self._linear.blocks(x))

    def _above(self, v: Float[torch.Tensor, "n d_sae"]) -> Sparse:
        if v.device.type != "cpu":
            return _pick(v, v > self._limit)
        # numpy finds set bytes several times as fast as torch does on the CPU.
        mask = scratch.take(tuple(v.shape), v.device, torch.bool).numpy()
        np.greater(v.numpy(), self._limit.numpy(), out=mask)
        flat = np.flatnonzero(mask)
        token, feature = np.divmod(flat, v.shape[1])
        value = v.numpy().reshape(-1).take(flat)
        return Sparse(torch.from_numpy(token), torch.from_numpy(feature), torch.from_numpy(value))


class TopKEncoder:
    """topk and abstopk."""

    def __init__(
        self,
        weight: Float[torch.Tensor, "d_in d_sae"],
        bias: Float[torch.Tensor, " d_sae"],
        k: int,
        scale: Float[torch.Tensor, " d_sae"],
        signed: bool,
    ) -> None:
        """Weights in the units in which SAELens ranks; `scale` turns winners into folded units.

        `signed` ranks by magnitude and keeps the sign (abstopk).
        """
        self._linear, self._k = _Linear(weight, bias), k
        self._scale, self._signed = scale, signed

    @property
    def weight(self) -> Float[torch.Tensor, "d_in d_sae"]:
        return self._linear.weight

    def column(self, feature: int) -> Float[torch.Tensor, " d_in"]:
        return self._linear.weight[:, feature] * self._scale[feature]

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        out = x.new_empty(len(x), len(self._scale)) if out is None else out
        out.zero_()
        for start, index, value in self._winners(x):
            out[start : start + len(index)].scatter_(1, index, value)
        return out

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        # Winners that were not asked for land in a spare last column.
        column = torch.full((len(self._scale),), len(features), device=x.device)
        column[features] = torch.arange(len(features), device=x.device)
        wide = x.new_zeros(len(x), len(features) + 1)
        for start, index, value in self._winners(x):
            wide[start : start + len(index)].scatter_(1, column[index], value)
        return wide[:, column[features]]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        return _join(
            (start, self._sorted(index, value)) for start, index, value in self._winners(x)
        )

    def _winners(
        self, x: Float[torch.Tensor, "n d_in"]
    ) -> Iterator[tuple[int, Int[torch.Tensor, "rows k"], Float[torch.Tensor, "rows k"]]]:
        """Block by block: first token, features of each token in no order, and their folded
        values, some of which may be 0."""
        for start, pre in self._linear.blocks(x):
            if self._signed:
                index = pre.abs().topk(self._k, dim=1, sorted=False).indices
                value = pre.gather(1, index)
            else:
                value, index = pre.topk(self._k, dim=1, sorted=False)
                value.relu_()
            yield start, index, value * self._scale[index]

    def _sorted(self, index: Int[torch.Tensor, "n k"], value: Float[torch.Tensor, "n k"]) -> Sparse:
        index, order = index.sort(dim=1)
        value = value.gather(1, order)
        token, rank = (value != 0).nonzero(as_tuple=True)
        return Sparse(token, index[token, rank], value[token, rank])


class IdentityEncoder:
    """Neurons: every one is its own feature."""

    @property
    def weight(self) -> None:
        return None

    def column(self, feature: int) -> None:
        return None

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_in"] | None
    ) -> Float[torch.Tensor, "n d_in"]:
        return x.clone() if out is None else out.copy_(x)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        return x[:, features]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        return _pick(x, x != 0)


class SaeLensEncoder:
    """matching_pursuit: SAELens' own encode, scaled."""

    def __init__(self, sae: SAE[Any], scale: Float[torch.Tensor, " d_sae"]) -> None:
        """Takes over `sae`, which must not prepare its input itself."""
        self._sae, self._scale = sae, scale

    @property
    def weight(self) -> None:
        return None

    def column(self, feature: int) -> None:
        return None

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        return torch.mul(self._sae.encode(x), self._scale, out=out)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        return self.dense(x, None)[:, features]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        dense = self.dense(x, None)
        return _pick(dense, dense != 0)


def _cut(
    v: Float[torch.Tensor, "n f"], threshold: Float[torch.Tensor, " f"] | None
) -> Float[torch.Tensor, "n f"]:
    """Zero, in place, what is not above the threshold (0 when there is none)."""
    if threshold is None:
        return v.relu_()
    if v.device.type != "cpu":
        return v.mul_(v > threshold)
    # On the CPU numpy multiplies by a mask in a quarter of the time that torch takes.
    dense = v.numpy()
    np.multiply(dense, dense > threshold.numpy(), out=dense)
    return v


def _pick(dense: Float[torch.Tensor, "n f"], where: Bool[torch.Tensor, "n f"]) -> Sparse:
    token, feature = where.nonzero(as_tuple=True)
    return Sparse(token, feature, dense[token, feature])


def _join(parts: Iterable[tuple[int, Sparse]]) -> Sparse:
    """Blocks behind each other, each with the number of its first token."""
    moved = [part._replace(token=part.token + start) for start, part in parts]
    return moved[0] if len(moved) == 1 else Sparse(*map(torch.cat, zip(*moved, strict=True)))
