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

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE

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


class ThresholdEncoder:
    """standard, jumprelu and gated."""

    def __init__(
        self,
        weight: Float[torch.Tensor, "d_in d_sae"],
        bias: Float[torch.Tensor, " d_sae"],
        threshold: Float[torch.Tensor, " d_sae"] | None,
    ) -> None:
        """W', b' and t' of the module's formula; no threshold is a ReLU."""
        self._weight, self._bias, self._threshold = weight, bias, threshold
        self._limit = torch.zeros((), device=weight.device) if threshold is None else threshold
        self._buffer = torch.empty(0, weight.shape[1], device=weight.device)
        self._mask = np.empty((0, weight.shape[1]), dtype=bool)

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        v = torch.addmm(self._bias, x, self._weight, out=out)
        return v.relu_() if self._threshold is None else v.mul_(v > self._threshold)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        v = torch.addmm(self._bias[features], x, self._weight[:, features])
        if self._threshold is None:
            return v.relu_()
        return v.mul_(v > self._threshold[features])

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        rows = _block_rows(self._weight)
        if len(self._buffer) < min(rows, len(x)):
            self._buffer = torch.empty(min(rows, len(x)), self._weight.shape[1], device=x.device)
        parts = []
        for start in range(0, len(x), rows):
            block = x[start : start + rows]
            v = torch.addmm(self._bias, block, self._weight, out=self._buffer[: len(block)])
            token, feature, value = self._above(v)
            parts.append(Sparse(token + start, feature, value))
        return _join(parts, x.device)

    def _above(self, v: Float[torch.Tensor, "n d_sae"]) -> Sparse:
        if v.device.type != "cpu":
            token, feature = (v > self._limit).nonzero(as_tuple=True)
            return Sparse(token, feature, v[token, feature])
        # numpy finds set bytes several times as fast as torch's nonzero does on the CPU.
        if len(self._mask) < len(v):
            self._mask = np.empty(tuple(v.shape), dtype=bool)
        dense, mask = v.numpy(), self._mask[: len(v)]
        np.greater(dense, self._limit.numpy(), out=mask)
        flat = np.flatnonzero(mask)
        token, feature = np.divmod(flat, v.shape[1])
        value = dense.reshape(-1)[flat]
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
        self._weight, self._bias, self._k = weight, bias, k
        self._scale, self._signed = scale, signed

    def _winners(
        self, x: Float[torch.Tensor, "n d_in"]
    ) -> tuple[Int[torch.Tensor, "n k"], Float[torch.Tensor, "n k"]]:
        """Features of each token, in no order, and their folded values, some of them 0."""
        pre = torch.addmm(self._bias, x, self._weight)
        if self._signed:
            index = pre.abs().topk(self._k, dim=1, sorted=False).indices
            return index, pre.gather(1, index) * self._scale[index]
        value, index = pre.topk(self._k, dim=1, sorted=False)
        return index, value.relu_() * self._scale[index]

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        index, value = self._winners(x)
        out = x.new_empty(len(x), self._weight.shape[1]) if out is None else out
        return out.zero_().scatter_(1, index, value)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        index, value = self._winners(x)
        # Winners that were not asked for land in a spare last column.
        column = torch.full((self._weight.shape[1],), len(features), device=x.device)
        column[features] = torch.arange(len(features), device=x.device)
        wide = x.new_zeros(len(x), len(features) + 1).scatter_(1, column[index], value)
        return wide[:, column[features]]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        rows = _block_rows(self._weight)
        parts = []
        for start in range(0, len(x), rows):
            index, value = self._winners(x[start : start + rows])
            index, order = index.sort(dim=1)
            value = value.gather(1, order)
            token, rank = (value != 0).nonzero(as_tuple=True)
            parts.append(Sparse(token + start, index[token, rank], value[token, rank]))
        return _join(parts, x.device)


class IdentityEncoder:
    """Neurons: every one is its own feature."""

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_in"] | None
    ) -> Float[torch.Tensor, "n d_in"]:
        return x.clone() if out is None else out.copy_(x)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        return x[:, features]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        return _nonzero(x)


class SaeLensEncoder:
    """matching_pursuit: SAELens' own encode, scaled."""

    def __init__(self, sae: SAE[Any], scale: Float[torch.Tensor, " d_sae"]) -> None:
        """Takes over `sae`, which must not prepare its input itself."""
        self._sae, self._scale = sae, scale

    def dense(
        self, x: Float[torch.Tensor, "n d_in"], out: Float[torch.Tensor, "n d_sae"] | None
    ) -> Float[torch.Tensor, "n d_sae"]:
        return torch.mul(self._sae.encode(x), self._scale, out=out)

    def columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        return self.dense(x, None)[:, features]

    def sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        return _nonzero(self.dense(x, None))


def _nonzero(dense: Float[torch.Tensor, "n f"]) -> Sparse:
    token, feature = dense.nonzero(as_tuple=True)
    return Sparse(token, feature, dense[token, feature])


def _block_rows(weight: torch.Tensor) -> int:
    limit = _BLOCK_ELEMENTS.get(weight.device.type, 2**24)
    return max(1, limit // weight.shape[1])


def _join(parts: list[Sparse], device: torch.device) -> Sparse:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = torch.empty(0, dtype=torch.long, device=device)
        return Sparse(none, none, torch.empty(0, device=device))
    return Sparse(*(torch.cat(column) for column in zip(*parts, strict=True)))
