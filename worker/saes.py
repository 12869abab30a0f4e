"""Making dictionaries: SAEs from SAELens folders, and the neurons of a layer."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE

from app.contract.ids import neuron_source
from app.errors import Invalid
from worker.building import one_at_a_time
from worker.dictionary import Decoder, Dictionary
from worker.encoders import (
    Encoder,
    IdentityEncoder,
    SaeLensEncoder,
    ThresholdEncoder,
    TopKEncoder,
)
from worker.fingerprint import fingerprint_neurons, fingerprint_sae
from worker.folders import one_line
from worker.models import LanguageModel
from worker.processing import is_centred
from worker.sae_folder import SaeFacts, check_sae_folder
from worker.sites import STEERABLE_HOOKS, is_steerable


def load_sae(
    sae_id: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    model: LanguageModel | None = None,
) -> Dictionary:
    """Load a SAELens folder for a model.

    Raises:
        Invalid: the folder fails `check_sae_folder`, weights are not finite, or the SAE does not fit
            the model: no such hook point, another width, or weight processing that cannot be mapped
            at its site.
    """
    facts = check_sae_folder(path)
    centred = is_centred(facts, model)
    if model is not None:
        check_fit(facts, model)
    sae = _load(path, torch.device(device))
    _check_finite(path, sae)
    dictionary = _dictionary(sae_id, fingerprint_sae(path), facts, sae, centred)
    _try_out(path, dictionary)
    return dictionary


def common_bos(told: Iterable[bool | None]) -> bool | None:
    """Whether SAEs that each tell their `prepend_bos` were trained on texts that begin with BOS;
    None when none of them says.

    Raises:
        Invalid: some were and some were not.
    """
    settings = set(told) - {None}
    if len(settings) > 1:
        raise Invalid(
            "Some of these SAEs were trained with BOS in front of the text and some without, so "
            "they need different tokens; ask for them separately."
        )
    return next(iter(settings), None)


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
        prepend_bos=None,
        encoder=IdentityEncoder(),
        decoder=Decoder(rows=None, bias=None, skip=None),
    )


@one_at_a_time
def _load(path: Path, device: torch.device) -> SAE[Any]:
    """SAELens' own module, in float32."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return SAE.load_from_disk(path, device=str(device), dtype="float32")
    except (RuntimeError, ValueError, KeyError) as error:
        raise Invalid(
            f"SAELens cannot load {path} ({one_line(error)}); save the SAE again."
        ) from error


def _check_finite(path: Path, sae: SAE[Any]) -> None:
    for name, weight in sae.state_dict().items():
        if not weight.isfinite().all():
            raise Invalid(
                f"The SAE in {path} has numbers in {name} that are infinite or no numbers, so its "
                "training has diverged; take an earlier checkpoint of it."
            )


def _try_out(path: Path, dictionary: Dictionary) -> None:
    """Encode one vector: what SAELens takes for a setting, such as a `k`, need not be one."""
    try:
        dictionary.encode(torch.zeros(1, dictionary.d_in))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Invalid(
            f"The SAE in {path} cannot be run ({one_line(error)}); look at its cfg.json."
        ) from error


def _dictionary(
    sae_id: str, fingerprint: str, facts: SaeFacts, sae: SAE[Any], centred: bool
) -> Dictionary:
    weights = sae.state_dict()
    lengths = weights["W_dec"].norm(dim=-1)
    transcoder = "transcoder" in facts.architecture
    subtracted = sae.cfg.apply_b_dec_to_input and not transcoder
    rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    steerable = is_steerable(facts.hook_out)
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
        encoder=_encoder(facts.architecture, sae, weights, lengths),
        decoder=_decoder(facts.architecture, weights, lengths, subtracted),
        b_dec=weights["b_dec"] if subtracted else None,
        normalisation=sae.cfg.normalize_activations,
        undone=not transcoder,
        centred=centred,
    )


def _decoder(
    architecture: str,
    weights: dict[str, torch.Tensor],
    lengths: Float[torch.Tensor, " d_sae"],
    subtracted: bool,
) -> Decoder:
    """Unit rows, with the bias that SAELens adds: matching pursuit adds b_dec only where it was
    subtracted from the input."""
    biased = subtracted or architecture != "matching_pursuit"
    return Decoder(
        rows=weights["W_dec"] / lengths.clamp(min=1e-12)[:, None],
        bias=weights["b_dec"] if biased else None,
        skip=weights.get("W_skip"),
    )


def _encoder(
    architecture: str,
    sae: SAE[Any],
    weights: dict[str, torch.Tensor],
    lengths: Float[torch.Tensor, " d_sae"],
) -> Encoder:
    """The encoder of an architecture; see the formulas of `worker.encoders`."""
    if architecture == "matching_pursuit":
        sae.cfg.apply_b_dec_to_input = False
        sae.run_time_activation_norm_fn_in = lambda x: x
        return SaeLensEncoder(sae, lengths)
    weight = weights["W_enc"]
    if architecture == "gated":
        gain, b_mag = weights["r_mag"].exp(), weights["b_mag"]
        opening = (b_mag - gain * weights["b_gate"]).relu()
        return ThresholdEncoder(weight * gain * lengths, b_mag * lengths, opening * lengths)
    bias = weights["b_enc"]
    if architecture in ("topk", "abstopk"):
        signed = architecture == "abstopk"
        if sae.cfg.rescale_acts_by_decoder_norm:
            weight, bias, lengths = weight * lengths, bias * lengths, torch.ones_like(lengths)
        return TopKEncoder(weight, bias, sae.cfg.k, lengths, signed)
    threshold = weights["threshold"].relu() * lengths if "jumprelu" in architecture else None
    return ThresholdEncoder(weight * lengths, bias * lengths, threshold)
