"""A dictionary in memory: features of one hook point, with their activations and directions.

A reported activation is the length of the feature's contribution to the reconstruction in hook
space, with the normalisation of the input undone:

1. the input is prepared as SAELens does it: centred where the SAE was trained under centred
   weights, normalised, b_dec subtracted;
2. an encoder (`worker.encoders`) gives folded activations: SAELens' times the length of the
   feature's decoder row (`scale`);
3. what the normalisation divided the token by is multiplied back in.

Everything is computed in float32, whatever the model's number format.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int

from worker.encoders import Encoder, Sparse


class _Prepared(NamedTuple):
    x: Float[torch.Tensor, "n d_in"]
    """What the encoder takes."""
    factor: Float[torch.Tensor, "n 1"] | None
    """What the normalisation divided each token by."""
    shift: Float[torch.Tensor, "n 1"] | None
    """What centring and normalisation subtracted from each token."""


@dataclass(eq=False)
class Decoder:
    """From folded activations back to hook space."""

    rows: Float[torch.Tensor, "d_sae d_out"] | None
    """Unit decoder rows; None is the identity."""
    bias: Float[torch.Tensor, " d_out"] | None
    skip: Float[torch.Tensor, "d_out d_in"] | None
    """Weights of a skip transcoder's direct path."""


@dataclass(eq=False)
class Dictionary:
    """Features of one hook point. One thread may use it at a time."""

    id: str
    fingerprint: str
    hook_name: str
    """Where it reads."""
    hook_out: str
    """Where it steers; `hook_name` but for transcoders."""
    layer: int
    architecture: str
    d_in: int
    d_sae: int
    steerable: bool
    steerable_reason: str | None
    """Why it cannot be steered, in one sentence."""
    scale: Float[torch.Tensor, " d_sae"]
    """Folded activation / SAELens' own, before the token's normalisation is undone."""
    signed: bool
    """Whether activations can be negative (neurons, abstopk)."""
    prepend_bos: bool | None
    """Whether BOS was there in training; None where unknown."""
    encoder: Encoder
    decoder: Decoder
    b_dec: Float[torch.Tensor, " d_in"] | None = None
    """Subtracted from the normalised input."""
    normalisation: str = "none"
    undone: bool = True
    """Whether the reconstruction is scaled back to the input's units (not by transcoders)."""
    centred: bool = False
    """Whether the mean over the vector is subtracted first."""

    @torch.inference_mode()
    def encode(
        self,
        x: Float[torch.Tensor, "n d_in"],
        out: Float[torch.Tensor, "n d_sae"] | None = None,
    ) -> Float[torch.Tensor, "n d_sae"]:
        """Activations of all features, written to `out` (float32) when it is given."""
        prepared = self._prepare(x)
        encoded = self.encoder.dense(prepared.x, out)
        return encoded if prepared.factor is None else encoded.mul_(prepared.factor)

    @torch.inference_mode()
    def encode_sparse(self, x: Float[torch.Tensor, "n d_in"]) -> Sparse:
        """Activations that are not zero: (token, feature, value), sorted by token, then feature."""
        prepared = self._prepare(x)
        found = self.encoder.sparse(prepared.x)
        if prepared.factor is None:
            return found
        return found._replace(value=found.value * prepared.factor[found.token, 0])

    @torch.inference_mode()
    def encode_columns(
        self, x: Float[torch.Tensor, "n d_in"], features: Int[torch.Tensor, " f"]
    ) -> Float[torch.Tensor, "n f"]:
        """`encode(x)[:, features]`, at the cost of these features where the architecture allows
        it; TopK needs all of them to know its winners."""
        prepared = self._prepare(x)
        encoded = self.encoder.columns(prepared.x, features)
        return encoded if prepared.factor is None else encoded * prepared.factor

    def reads(self, feature: int) -> Float[torch.Tensor, " d_in"] | None:
        """What a feature's folded activation grows by, along each axis of the SAE's input: its column
        of the encoder. None where it reads no one direction."""
        if self.decoder.rows is None:
            return torch.nn.functional.one_hot(torch.tensor(feature), self.d_in).float()
        return self.encoder.column(feature)

    def directions(self, features: Int[torch.Tensor, " f"]) -> Float[torch.Tensor, "f d_out"]:
        """Unit decoder rows of some features."""
        if self.decoder.rows is None:
            return torch.nn.functional.one_hot(features, self.d_sae).float()
        return self.decoder.rows[features]

    @torch.inference_mode()
    def decode(
        self, encoded: Float[torch.Tensor, "n d_sae"], x: Float[torch.Tensor, "n d_in"]
    ) -> Float[torch.Tensor, "n d_out"]:
        """The reconstruction at `hook_out` from the activations of inputs `x`.

        `x` is needed for what was normalised away from it, and for a skip path.
        """
        if self.decoder.rows is None:
            return encoded
        return encoded @ self.decoder.rows + self.offset(x)

    @torch.inference_mode()
    def offset(self, x: Float[torch.Tensor, "n d_in"]) -> Float[torch.Tensor, "#n d_out"]:
        """What the reconstruction of `x` holds besides the features' contributions."""
        prepared = self._prepare(x)
        rest = (
            x.new_zeros(1, 1, dtype=torch.float32)
            if self.decoder.bias is None
            else self.decoder.bias[None]
        )
        if prepared.factor is not None:
            rest = rest * prepared.factor
        if prepared.shift is not None and self.undone:
            rest = rest + prepared.shift
        if self.decoder.skip is not None:
            rest = rest + x.to(self.decoder.skip) @ self.decoder.skip.T
        return rest

    def _prepare(self, x: Float[torch.Tensor, "n d_in"]) -> _Prepared:
        x = x.to(self.scale.device, torch.float32)
        factor = shift = None
        if self.centred or self.normalisation == "layer_norm":
            shift = x.mean(dim=-1, keepdim=True)
            x = x - shift
        if self.normalisation == "layer_norm":
            factor = x.std(dim=-1, keepdim=True)
            x = x / (factor + 1e-5)
        elif self.normalisation == "constant_norm_rescale":
            factor = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
            x = x / factor
        if self.b_dec is not None:
            x = x - self.b_dec
        return _Prepared(x, factor if self.undone else None, shift)
