"""Dictionaries: SAEs in memory, and the neurons of a layer as a dictionary of their own.

A reported activation is the length of the feature's contribution to the reconstruction in hook
space, with the normalisation of the input undone:

1. the input is prepared as SAELens does it: centred where the SAE was trained under centred
   weights, normalised, b_dec subtracted;
2. an encoder (`worker.encoders`) gives folded activations: SAELens' times the length of the
   feature's decoder row (`scale`);
3. what the normalisation divided the token by is multiplied back in.

Everything is computed in float32, whatever the model's number format.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from sae_lens import SAE

from app.contract.ids import neuron_source
from app.errors import Invalid
from worker.encoders import (
    Encoder,
    IdentityEncoder,
    SaeLensEncoder,
    Sparse,
    ThresholdEncoder,
    TopKEncoder,
)
from worker.fingerprint import fingerprint_neurons, fingerprint_sae
from worker.folders import one_line
from worker.models import LanguageModel
from worker.processing import is_centred
from worker.sae_folder import SaeFacts, check_sae_folder
from worker.sites import STEERABLE_HOOKS, is_steerable


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
    """Features of one hook point. One thread may use it at a time: it keeps buffers."""

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
    context_size: int | None
    """Whether BOS was there in training, and how long its texts were; None where unknown."""
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
        return encoded @ self.decoder.rows + self._rest(x)

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

    def _rest(self, x: Float[torch.Tensor, "n d_in"]) -> Float[torch.Tensor, "#n d_out"]:
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


def load_sae(
    sae_id: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    model: LanguageModel | None = None,
) -> Dictionary:
    """Load a SAELens folder for a model.

    Raises:
        Invalid: the folder fails `check_sae_folder`, or the SAE does not fit the model: no such
            hook point, another width, or weight processing that cannot be mapped at its site.
    """
    facts = check_sae_folder(path)
    centred = is_centred(facts, model)
    if model is not None:
        check_fit(facts, model)
    sae = _load(path, torch.device(device))
    return _dictionary(sae_id, fingerprint_sae(path), facts, sae, centred)


def check_fit(facts: SaeFacts, model: LanguageModel) -> None:
    """Raises `Invalid` where an SAE does not fit a model's hook points."""
    for hook_name, width, what in (
        (facts.hook_name, facts.d_in, "reads"),
        (facts.hook_out, facts.d_out, "writes"),
    ):
        site = model.site(hook_name)
        if site.width != width:
            raise Invalid(
                f"The SAE {what} {width} numbers at {hook_name}, where the model {model.id} has "
                f"{site.width}; give an SAE that was trained on this model."
            )


def neuron_dictionary(model: LanguageModel, layer: int) -> Dictionary:
    """The neurons of a layer's `mlp.hook_post`, each its own feature with its activation as it is.

    Raises:
        Invalid: the model has no such layer, or its layers have no neurons.
    """
    site = model.site(f"blocks.{layer}.mlp.hook_post")
    return Dictionary(
        id=neuron_source(layer),
        fingerprint=fingerprint_neurons(model.fingerprint, layer),
        hook_name=site.hook_name,
        hook_out=site.hook_name,
        layer=layer,
        architecture="neurons",
        d_in=site.width,
        d_sae=site.width,
        steerable=True,
        steerable_reason=None,
        scale=torch.ones(site.width, device=model.device),
        signed=True,
        prepend_bos=model.prepend_bos,
        context_size=None,
        encoder=IdentityEncoder(),
        decoder=Decoder(rows=None, bias=None, skip=None),
    )


def _load(path: Path, device: torch.device) -> SAE[Any]:
    """SAELens' own module, in float32."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return SAE.load_from_disk(path, device=str(device), dtype="float32")
    except (RuntimeError, ValueError, KeyError) as error:
        raise Invalid(
            f"SAELens cannot load {path} ({one_line(error)}); save the SAE again."
        ) from error


@torch.no_grad()
def _dictionary(
    sae_id: str, fingerprint: str, facts: SaeFacts, sae: SAE[Any], centred: bool
) -> Dictionary:
    lengths = sae.W_dec.data.norm(dim=-1)
    rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    transcoder = "transcoder" in facts.architecture
    steerable = is_steerable(facts.hook_out)
    subtracted = sae.cfg.apply_b_dec_to_input and not transcoder
    tied = facts.architecture == "matching_pursuit"
    return Dictionary(
        id=sae_id,
        fingerprint=fingerprint,
        hook_name=facts.hook_name,
        hook_out=facts.hook_out,
        layer=facts.layer,
        architecture=facts.architecture,
        d_in=facts.d_in,
        d_sae=facts.d_sae,
        steerable=steerable,
        steerable_reason=None
        if steerable
        else f"{facts.hook_out} cannot be steered; these can: {', '.join(STEERABLE_HOOKS)}.",
        scale=torch.ones_like(lengths) if rescaled else lengths,
        signed=facts.architecture == "abstopk",
        prepend_bos=facts.prepend_bos,
        context_size=facts.context_size,
        b_dec=sae.b_dec.data if subtracted else None,
        normalisation=sae.cfg.normalize_activations,
        undone=not transcoder,
        centred=centred,
        encoder=_encoder(facts.architecture, sae, lengths),
        decoder=Decoder(
            rows=sae.W_dec.data / lengths.clamp(min=1e-12)[:, None],
            bias=None if tied and not subtracted else sae.b_dec.data,
            skip=sae.W_skip.data if "skip" in facts.architecture else None,
        ),
    )


def _encoder(architecture: str, sae: SAE[Any], lengths: Float[torch.Tensor, " d_sae"]) -> Encoder:
    """The encoder of an architecture; see the formulas of `worker.encoders`."""
    if architecture == "matching_pursuit":
        sae.cfg.apply_b_dec_to_input = False
        sae.run_time_activation_norm_fn_in = lambda x: x
        return SaeLensEncoder(sae, lengths)
    weight = sae.W_enc.data
    if architecture in ("topk", "abstopk"):
        bias, scale = sae.b_enc.data, lengths
        if sae.cfg.rescale_acts_by_decoder_norm:
            weight, bias, scale = weight * lengths, bias * lengths, torch.ones_like(lengths)
        return TopKEncoder(weight, bias, sae.cfg.k, scale, signed=architecture == "abstopk")
    if architecture == "gated":
        gain = lengths * sae.r_mag.data.exp()
        opening = sae.b_mag.data - sae.r_mag.data.exp() * sae.b_gate.data
        return ThresholdEncoder(weight * gain, sae.b_mag.data * lengths, lengths * opening.relu())
    threshold = lengths * sae.threshold.data.relu() if "jumprelu" in architecture else None
    return ThresholdEncoder(weight * lengths, sae.b_enc.data * lengths, threshold)
